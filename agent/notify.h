/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify for several interested parties: cgroup.events of sandboxes, parents whose children are
 * sandboxes, folders of policy, configuration and keys. Two parties may watch the same inode.
 */
#pragma once

#include <stdint.h>
#include <sys/inotify.h>

#include "common/loop.h"

struct notify;
/* `name` is the entry in a watched directory, or "". */
typedef void (*notify_fn)(void *arg, uint32_t mask, const char *name);

int notify_init(struct loop *loop, struct notify **ret);
void notify_fini(struct notify *n);
/* An id above 0 for notify_remove(), or negative errno. May be called from a handler. */
int notify_add(struct notify *n, const char *path, uint32_t mask, notify_fn fn, void *arg);
/* Harmless with an id that is 0 or gone. */
void notify_remove(struct notify *n, int id);
