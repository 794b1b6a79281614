/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map. Only gate.bpf.c includes this. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/gate_abi.h"

/*
 * The key of eight bytes makes one value per cgroup that all programs attached there share. It is
 * the attach point's value, whatever the task's own cgroup is: sub-cgroups inherit it, passing
 * descriptors does not change it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct gate_label);
} sp_label SEC(".maps");

/* Freed with the client's socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct gate_client);
} sp_client SEC(".maps");

/* Freed with the gateway's accepted socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stamp);
} sp_conn SEC(".maps");

/* Not an LRU: a flood would evict another sandbox's entry. The bound per sandbox is in sp_budget.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GATE_HANDOFF_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gate_tuple);
	__type(value, struct stamp);
} sp_handoff SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GATE_DOOR_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gate_door_key);
	__type(value, struct gate_door);
} sp_doors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GATE_SANDBOX_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct gate_budget);
} sp_budget SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GATE_REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} sp_reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gate_config);
} sp_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GATE_NETNS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct gate_netns);
} sp_netns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GATE_VIP_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gate_vip_key);
	__type(value, struct gate_name);
} sp_vip SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, GATE_SUSPECT_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gate_suspect_key);
	__type(value, struct gate_name);
} sp_suspect SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, GATE_DGRAM_MAX);
	__type(key, struct gate_dgram_key);
	__type(value, struct stamp);
} sp_dgram SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, GATE_EVENT_BYTES);
} sp_events SEC(".maps");
