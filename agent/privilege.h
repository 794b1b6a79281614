/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon must be allowed to do, and giving up the rest. */
#pragma once

/* Dies with a sentence that says what is missing. */
void privilege_require(void);
/* Keeps the capabilities that the daemon and its children need; drops the others for good. */
void privilege_drop(void);
