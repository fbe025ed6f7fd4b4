// SPDX-License-Identifier: (Apache-2.0 OR MIT) OR GPL-2.0-only
/*
 * Both ends of the forwarding rig.
 *
 * generate  is run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (docs.kernel.org/bpf/bpf_prog_run.html): each run writes the next
 *           template over the frame it is given and sends it out of an interface, as long as it has credit; without, it turns and sends
 *           nothing, since a call of its own for a few frames ends in waiting for all cores. It is attached nowhere.
 * sink      counts and drops what arrives at the uplink's far end. It also makes its veth a native XDP device, without which frames that
 *           a box redirects to the other end are refused.
 * back      the same at the LAN's far end, for answers.
 *
 * Built by build.sh beside it; needs the kernel's uapi header only.
 */
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;

/* The same in frames.rs. */
#define FRAME_LEN 60

struct template {
	__u64 words[8];
};

/* Made as large as there are frames (traffic.rs). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct template);
} templates SEC(".maps");

/*
 * Offered and next are written by the one core that generates; next from outside too, while there is no credit: as many frames as may be
 * offered, in all. The same in traffic.rs.
 */
enum state { STATE_OUT, STATE_OFFERED, STATE_NEXT, STATE_TEMPLATES, STATE_CREDIT, STATE_COUNT };
enum sunk { SUNK_UPLINK, SUNK_LAN, SUNK_COUNT };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STATE_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} state SEC(".maps");

/* By CPU, so that the rig can see on which core the sink ran: on the box's it would be a part of the box. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SUNK_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 out_key = STATE_OUT, offered_key = STATE_OFFERED, next_key = STATE_NEXT;
	__u32 templates_key = STATE_TEMPLATES, credit_key = STATE_CREDIT;
	__u64 *out = bpf_map_lookup_elem(&state, &out_key);
	__u64 *offered = bpf_map_lookup_elem(&state, &offered_key);
	__u64 *next = bpf_map_lookup_elem(&state, &next_key);
	__u64 *count = bpf_map_lookup_elem(&state, &templates_key);

	__u64 *credit = bpf_map_lookup_elem(&state, &credit_key);

	if (!out || !offered || !next || !count || !credit || data + FRAME_LEN > end)
		return XDP_ABORTED;
	if (*offered >= *(volatile __u64 *)credit)
		return XDP_DROP;

	__u32 which = (__u32)*next;
	struct template *template = bpf_map_lookup_elem(&templates, &which);

	if (!template)
		return XDP_ABORTED;
	*next = *next + 1 < *count ? *next + 1 : 0;

	__u64 *to = data;

	to[0] = template->words[0];
	to[1] = template->words[1];
	to[2] = template->words[2];
	to[3] = template->words[3];
	to[4] = template->words[4];
	to[5] = template->words[5];
	to[6] = template->words[6];
	*(__u32 *)(to + 7) = (__u32)template->words[7];
	*offered += 1;
	return bpf_redirect((__u32)*out, 0);
}

static __attribute__((always_inline)) int swallow(__u32 at)
{
	__u64 *n = bpf_map_lookup_elem(&sunk, &at);

	if (n)
		*n += 1;
	return XDP_DROP;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	return swallow(SUNK_UPLINK);
}

SEC("xdp")
int back(struct xdp_md *ctx)
{
	return swallow(SUNK_LAN);
}

char _license[] SEC("license") = "Dual MIT/GPL";
