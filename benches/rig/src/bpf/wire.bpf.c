// SPDX-License-Identifier: (Apache-2.0 OR MIT) OR GPL-2.0-only
/*
 * Boxes that never leave the kernel: what arrives on one port goes out of the other, and nothing is looked at.
 *
 * wire_xdp  before there is a socket buffer (XDP_REDIRECT by way of a device map, which sends in bulk).
 * wire_tc   at the ingress hook of traffic control.
 *
 * Built by build.sh beside it; needs the kernel's uapi header only.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} out_xdp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} out_tc SEC(".maps");

SEC("xdp")
int wire_xdp(struct xdp_md *ctx)
{
	return (int)bpf_redirect_map(&out_xdp, 0, XDP_DROP);
}

SEC("classifier")
int wire_tc(struct __sk_buff *skb)
{
	__u32 zero = 0;
	__u32 *out = bpf_map_lookup_elem(&out_tc, &zero);

	return out ? (int)bpf_redirect(*out, 0) : TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual MIT/GPL";
