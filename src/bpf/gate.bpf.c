// SPDX-License-Identifier: (Apache-2.0 OR MIT) OR GPL-2.0-only
/*
 * The in-kernel gate: each frame goes to the AF_XDP socket of its receive queue, and where there is no socket it is dropped.
 *
 * It is attached by a link that is pinned in bpffs, so it outlives the process: a process that dies takes its sockets with it,
 * the map entries go with the sockets, and every frame after that takes the no-socket way. That is what "on_failure = closed" means.
 *
 * The layout of the maps is an interface between versions: a new process adopts the pinned maps of the old one.
 *   xsks   XSKMAP, index = receive queue
 *   stats  per-CPU u64 by enum stat
 * A heartbeat array and a DEVMAP to the peer NIC for "on_failure = open" get maps of their own beside these.
 *
 * Built by src/bpf/build.sh; needs the kernel's uapi header only.
 */
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

#define MAX_QUEUES 256

enum stat { STAT_REDIRECTED, STAT_NO_SOCKET, STAT_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} stats SEC(".maps");

static __attribute__((always_inline)) void count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&stats, &which);
	if (n)
		*n += 1;
}

SEC("xdp")
int gate(struct xdp_md *ctx)
{
	/* The low bits of flags are the answer when the map has no socket at this index (bpf-helpers(7)). */
	long verdict = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);

	count(verdict == XDP_REDIRECT ? STAT_REDIRECTED : STAT_NO_SOCKET);
	return verdict;
}

char _license[] SEC("license") = "Dual MIT/GPL";
