/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport keys`: where each provider's key comes from and whether it can be used; never the key.
 */
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

struct keys_args {
	struct cli_common common;
};
const struct cli_option keys_options[] = {
	CLI_OPTION_CSV(keys_args),
	{ 0 },
};

static const struct column columns[] = {
	{ "provider", "PROVIDER", COL_TEXT, 0 },
	{ "source", "SOURCE", COL_TEXT, COL_TAIL },
	{ "changed", "CHANGED", COL_AGO, 0 },
	{ "state", "STATE", COL_TEXT, COL_STATE },
};

static void on_key(void *arg, const void *row)
{
	const struct msg_key_row *k = row;
	struct table *t = arg;

	table_text(t, str_of(k->provider));
	table_text(t, str_of(k->source));
	if (k->changed_ns)
		table_int(t, (int64_t)k->changed_ns);
	else
		table_null(t);
	table_text(t, str_of(k->state));
}

int cmd_keys(int argc, char **argv)
{
	struct keys_args o = { 0 };
	auto_free struct control *c = calloc(1, sizeof(*c));
	struct table t;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("keys", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = control_open(&o.common, c);
	if (code)
		return code;
	table_init(&t, columns, ARRAY_SIZE(columns));
	code = control_list(c, MSG_CTL_KEYS, MSG_KEY_ROW, sizeof(struct msg_key_row), on_key, &t);
	if (!code)
		code = table_print(&t, &o.common,
				   "the policy in force has no provider that takes a key");
	table_fini(&t);
	control_close(c);
	return code;
}
