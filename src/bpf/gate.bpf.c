// SPDX-License-Identifier: (Apache-2.0 OR MIT) OR GPL-2.0-only
/*
 * The in-kernel gate: each frame goes to the AF_XDP socket of its receive queue, as long as the worker behind it beats.
 *
 * It is attached by a link that is pinned in bpffs, so it outlives the process. A process that dies takes its sockets with it, and the map
 * entries go with the sockets: the next frame finds none. One that hangs, or whose worker is stuck, keeps its sockets and beats no more: the next
 * frame after the watchdog's time finds an old beat. Both are failures, and what becomes of frames then was said before: "on_failure = closed"
 * drops them, "open" hands them to the other NIC as they are, unfiltered, and counts them and the time.
 *
 * The layout of the maps is an interface between versions: a new process adopts the pinned maps of the old one.
 *   xsks      XSKMAP, index = receive queue
 *   stats     per-CPU u64 by enum stat
 *   beats     by receive queue, mapped by the worker that serves it: when it has turned last, nanoseconds of CLOCK_MONOTONIC
 *   settings  one: how old a beat may be (0: nobody was ever there, which fails closed), and what to do then
 *   peer      DEVMAP, entry 0 = the other NIC, once "open" was ever said; looked at only while it is
 *   failures  per-CPU u64 by enum failure
 *   outages   by receive queue: how long frames have passed unfiltered
 *
 * Built by src/bpf/build.sh; needs the kernel's uapi header only.
 */
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;
static __u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static __u64 (*const bpf_jiffies64)(void) = (void *)BPF_FUNC_jiffies64;

#define MAX_QUEUES 256
/* Unfiltered frames that are further apart than this and the watchdog's time are of two outages, nanoseconds. */
#define APART 1000000000ULL

enum stat { STAT_REDIRECTED, STAT_NO_SOCKET, STAT_COUNT };
enum failure { FAILURE_STALE, FAILURE_UNFILTERED, FAILURE_COUNT };

/* A cache line each: the worker writes it, and the core that receives reads it for every frame. */
struct beat {
	__u64 at;
	__u64 unused[7];
};

struct settings {
	__u64 watchdog;
	__u64 open;
};

/* The first and the last frame of the outage that lasts, 0 where none does, and the sum of those that are over; nanoseconds. */
struct outage {
	__u64 since;
	__u64 until;
	__u64 total;
};

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

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_QUEUES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct beat);
} beats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAILURE_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} failures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, struct outage);
} outages SEC(".maps");

/* The time that was read last, and the tick in which that was. Not pinned: each program has its own. */
static struct {
	__u64 now;
	__u64 tick;
} clock;

/*
 * CLOCK_MONOTONIC as of the last tick: cheaper than the exact time. Which tick it is, is a load; the time itself is asked for once a tick, and by
 * whichever core comes first. What is read is older than the time by two ticks (the tick is counted before the time is moved on), or until the
 * next tick by as long as another core was held up on its way to the stores below; a beat looks younger by as much.
 */
static __attribute__((always_inline)) __u64 coarse_now(void)
{
	__u64 tick = bpf_jiffies64();

	if (tick != *(volatile __u64 *)&clock.tick) {
		*(volatile __u64 *)&clock.now = bpf_ktime_get_coarse_ns();
		*(volatile __u64 *)&clock.tick = tick;
	}
	return *(volatile __u64 *)&clock.now;
}

static __attribute__((always_inline)) void count(void *map, __u32 which)
{
	__u64 *n = bpf_map_lookup_elem(map, &which);
	if (n)
		*n += 1;
}

SEC("xdp")
int gate(struct xdp_md *ctx)
{
	__u32 first = 0, queue = ctx->rx_queue_index;
	struct settings *set = bpf_map_lookup_elem(&settings, &first);
	struct beat *beat = bpf_map_lookup_elem(&beats, &queue);
	struct outage *outage = bpf_map_lookup_elem(&outages, &queue);
	__u64 now = coarse_now();
	int stale;
	long verdict;

	/* A queue beyond the maps. */
	if (!set || !beat || !outage) {
		count(&stats, STAT_NO_SOCKET);
		return XDP_DROP;
	}
	/* A beat may be younger than the last tick. */
	stale = (__s64)(now - *(volatile __u64 *)&beat->at) > (__s64)set->watchdog;
	if (!stale) {
		/* The low bits of flags are the answer when the map has no socket at this index (bpf-helpers(7)). */
		verdict = bpf_redirect_map(&xsks, queue, XDP_ABORTED);
		if (verdict == XDP_REDIRECT) {
			count(&stats, STAT_REDIRECTED);
			if (outage->since) {
				outage->total += outage->until - outage->since;
				outage->since = 0;
			}
			return verdict;
		}
	}
	if (set->open) {
		verdict = bpf_redirect_map(&peer, 0, XDP_ABORTED);
		if (verdict == XDP_REDIRECT) {
			count(&failures, FAILURE_UNFILTERED);
			/* One that nothing has ended, since nothing came: this is another. */
			if (outage->since && now - outage->until > set->watchdog + APART) {
				outage->total += outage->until - outage->since;
				outage->since = 0;
			}
			if (!outage->since)
				outage->since = now;
			outage->until = now;
			return verdict;
		}
	}
	if (stale)
		count(&failures, FAILURE_STALE);
	else
		count(&stats, STAT_NO_SOCKET);
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual MIT/GPL";
