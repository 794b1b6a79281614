/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy_file.h"

#include <errno.h>

#include "cli/client.h"
#include "common/buf.h"
#include "common/log.h"

/* Rationale: a table of a few hundred models is far below. */
#define PRICES_TEXT_MAX (16u << 20)

int policy_file_load(const struct cli_common *o, const char *path, struct policy_file *ret)
{
	struct config *config = NULL;
	auto_free char *prices = NULL;
	size_t n_prices = 0;
	int code, err;

	*ret = (struct policy_file){ .path = path, .diags = calloc(1, sizeof(*ret->diags)) };
	if (!ret->diags)
		return cli_fail(EXIT_FAILED, "no memory");
	code = client_config(o, &config);
	if (code)
		return code;
	if (!path)
		ret->path = ret->owned_path = strndup(config->policy.s, config->policy.n);
	err = config->prices.n
		      ? client_read_file(config->prices.s, PRICES_TEXT_MAX, &prices, &n_prices)
		      : 0;
	if (err)
		code = cli_fail(EXIT_FAILED, "the price table %s cannot be read: %s",
				config->prices.s, errno_text(err));
	config_free(config);
	if (code || !ret->path)
		return code ? code : cli_fail(EXIT_FAILED, "no memory");
	err = client_read_file(ret->path, POLICY_TEXT_MAX, &ret->text, &ret->text_bytes);
	if (err == -ENOENT)
		return cli_fail(
			EXIT_FAILED,
			"there is no policy %s: write one (sallyport-policy(5)), or name another file",
			ret->path);
	if (err)
		return cli_fail(EXIT_FAILED, "the policy %s cannot be read: %s", ret->path,
				errno_text(err));
	err = policy_parse((struct str){ ret->text, ret->text_bytes },
			   (struct str){ prices, n_prices }, &ret->policy, ret->diags);
	return err == -ENOMEM ? cli_fail(EXIT_FAILED, "no memory for the policy %s", ret->path)
			      : EXIT_OK;
}

void policy_file_fini(struct policy_file *f)
{
	policy_free(f->policy);
	free(f->diags);
	free(f->owned_path);
	free(f->text);
	*f = (struct policy_file){ 0 };
}

void policy_file_say(const struct policy_file *f, FILE *out)
{
	struct buf lines;

	buf_init(&lines, 1 << 20);
	if (!policy_diags_print(f->diags, str_of(f->path), &lines) && buf_len(&lines))
		fwrite(buf_head(&lines), 1, buf_len(&lines), out);
	buf_fini(&lines);
}

void policy_identity_of(struct str src, struct policy_identity *ret)
{
	*ret = (struct policy_identity){ 0 };
	ret->facts.tags = ret->tags;
	if (str_starts(src, STR("user:"))) {
		ret->facts.user = str_skip(src, 5);
	} else if (str_starts(src, STR("cgroup:"))) {
		ret->facts.cgroup = str_skip(src, 7);
	} else if (str_starts(src, STR("container:"))) {
		ret->facts.container = str_skip(src, 10);
	}
	while (str_starts(src, STR("tag:")) && ret->facts.n_tags < POLICY_IDENTITY_TAGS) {
		const char *comma = memchr(src.s, ',', src.n);
		size_t n = comma ? (size_t)(comma - src.s) : src.n;

		ret->tags[ret->facts.n_tags++] = (struct str){ src.s, n };
		src = str_skip(src, n + 1);
	}
}
