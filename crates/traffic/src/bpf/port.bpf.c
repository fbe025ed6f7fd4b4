// SPDX-License-Identifier: (Apache-2.0 OR MIT) OR GPL-2.0-only
/*
 * A port of the tester: each frame that was sent by the tester's other port goes to the AF_XDP socket of its receive queue, all others to the
 * kernel as before, so that a NIC which somebody works over stays usable.
 *
 *   xsks   XSKMAP, index = receive queue
 *   peer   one: the MAC address of the other port, as six bytes in memory order; a seventh that is not 0 says that every frame is wanted
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
#define ETHERNET 14
#define SOURCE 6

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[8]);
} peer SEC(".maps");

SEC("xdp")
int port(struct xdp_md *ctx)
{
	__u32 first = 0;
	__u8 *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *mac = bpf_map_lookup_elem(&peer, &first);
	__u8 differs = 0;

	if (!mac || frame + ETHERNET > end)
		return XDP_PASS;
	for (int at = 0; at < 6; at++)
		differs |= frame[SOURCE + at] ^ mac[at];
	if (differs && !mac[6])
		return XDP_PASS;
	/* A queue without a socket: the frame goes on. */
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual MIT/GPL";
