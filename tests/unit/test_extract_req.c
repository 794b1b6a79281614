/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/extract.h"

#include "common/buf.h"
#include "tests/unit/test.h"

static struct req_tap *tap;

/* The facts of a body, the same for every cut. Valid until the next call. */
static const struct req_facts *facts(enum wire_format format, const char *body)
{
	static struct req_facts whole;
	size_t n = strlen(body);

	if (!tap)
		tap = req_tap_new();
	req_tap_start(tap, format);
	req_tap_feed(tap, body, n);
	whole = *req_tap_end(tap);
	for (size_t cut = 0; cut <= n; cut++) {
		req_tap_start(tap, format);
		req_tap_feed(tap, body, cut);
		req_tap_feed(tap, body + cut, n - cut);
		CHECK(!memcmp(&whole, req_tap_end(tap), sizeof(whole)));
	}
	req_tap_start(tap, format);
	for (size_t i = 0; i < n; i++)
		req_tap_feed(tap, body + i, 1);
	CHECK(!memcmp(&whole, req_tap_end(tap), sizeof(whole)));
	return &whole;
}

/* ---------------------------------------------------------------- the usage edit */

static void check_edit(const char *body, const char *want)
{
	const struct req_facts *f = facts(WIRE_OPENAI_CHAT, body);
	char out[512];

	CHECK(f->usage_edit.at + f->usage_edit.skip <= strlen(body));
	snprintf(out, sizeof(out), "%.*s%s%s", (int)f->usage_edit.at, body, f->usage_edit.insert,
		 body + f->usage_edit.at + f->usage_edit.skip);
	CHECK_STR(out, want);
}

static void usage_is_asked_for(void)
{
	check_edit("{\"model\":\"m\",\"stream\":true}",
		   "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	check_edit(
		"{\"stream\": true , \"x\":{} \n} \n",
		"{\"stream\": true , \"x\":{} \n,\"stream_options\":{\"include_usage\":true}} \n");
	check_edit("{\"stream_options\":{\"a\":1},\"stream\":true}",
		   "{\"stream_options\":{\"a\":1,\"include_usage\":true},\"stream\":true}");
	check_edit("{\"stream_options\":{ },\"stream\":true}",
		   "{\"stream_options\":{ \"include_usage\":true},\"stream\":true}");
	check_edit("{\"stream_options\":null,\"stream\":true}",
		   "{\"stream_options\":{\"include_usage\":true},\"stream\":true}");
	check_edit("{\"stream_options\":{\"include_usage\": false,\"b\":2},\"stream\":true}",
		   "{\"stream_options\":{\"include_usage\": true,\"b\":2},\"stream\":true}");
	check_edit("{\"stream_options\":{\"include_usage\":null},\"stream\":true}",
		   "{\"stream_options\":{\"include_usage\":true},\"stream\":true}");
	/* The last one counts, as with the provider. */
	check_edit(
		"{\"stream_options\":{\"include_usage\":true},\"stream\":true,\"stream_options\":{}}",
		"{\"stream_options\":{\"include_usage\":true},\"stream\":true,"
		"\"stream_options\":{\"include_usage\":true}}");
	check_edit(
		"{\"stream_options\":{\"include_usage\":true,\"include_usage\":false},\"stream\":true}",
		"{\"stream_options\":{\"include_usage\":true,\"include_usage\":true},\"stream\":true}");
	/* Members of the same name elsewhere do not. */
	check_edit("{\"metadata\":{\"stream_options\":{\"include_usage\":true}},\"stream\":true}",
		   "{\"metadata\":{\"stream_options\":{\"include_usage\":true}},\"stream\":true,"
		   "\"stream_options\":{\"include_usage\":true}}");
}

static void usage_is_left_alone(void)
{
	static const char *const bodies[] = {
		"{\"model\":\"m\"}",
		"{\"stream\":false}",
		"{\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
		"{\"stream\":true,\"stream_options\":7}",
		"{\"stream\":true",
		"[{\"stream\":true}]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		check_edit(bodies[i], bodies[i]);
	CHECK(facts(WIRE_OPENAI_CHAT, bodies[2])->usage_asked);
	CHECK_STR(facts(WIRE_OPENAI_RESPONSES, "{\"stream\":true}")->usage_edit.insert, "");
}

/* ---------------------------------------------------------------- model, stream, bounds */

static void models(void)
{
	const char *body =
		"{\"messages\":[{\"model\":\"no\"}], \"model\" : \"openai/gpt\\u002d5\",\"stream\":true}";
	const struct req_facts *f = facts(WIRE_OPENAI_CHAT, body);

	CHECK_STR(f->model, "openai/gpt-5");
	CHECK(!strncmp(body + f->model_at, "openai/gpt\\u002d5\"", f->model_len + 1));
	CHECK(f->stream && !f->model_repeated && !f->not_json && !f->model_cut);
	CHECK_INT(f->body_bytes, strlen(body));

	f = facts(WIRE_OPENAI_CHAT, "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}");
	CHECK_STR(f->model, "b");
	CHECK(f->model_repeated);
	f = facts(WIRE_OPENAI_CHAT, "{\"model\":null}");
	CHECK_STR(f->model, "");
	CHECK_INT(f->model_at, 0);
	f = facts(WIRE_OPENAI_CHAT, "{\"stream\":\"true\",\"model\":{\"model\":\"x\"}}");
	CHECK_STR(f->model, "");
	CHECK(!f->stream);
}

static void long_models_are_cut_and_flagged(void)
{
	char body[512];

	snprintf(body, sizeof(body), "{\"model\":\"%0127d\"}", 1);
	CHECK(!facts(WIRE_ANTHROPIC_MESSAGES, body)->model_cut);
	snprintf(body, sizeof(body), "{\"model\":\"%0128d\"}", 1);
	CHECK(facts(WIRE_ANTHROPIC_MESSAGES, body)->model_cut);
	CHECK_INT(strlen(facts(WIRE_ANTHROPIC_MESSAGES, body)->model), MODEL_BYTES - 1);
}

static void what_is_no_json(void)
{
	static const char *const bodies[] = {
		"",	      "x",	  "[]",		"\"a\"",
		"7",	      "{\"a\":1", "{\"a\":1}}", "--boundary\r\n",
		"{\"a\":1,}", "null",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++)
		CHECK(facts(WIRE_OPENAI_CHAT, bodies[i])->not_json);
	CHECK(!facts(WIRE_OPENAI_CHAT, " {} \n")->not_json);
	CHECK(!facts(WIRE_NONE, "x")->not_json);
}

static void output_bounds(void)
{
	CHECK_INT(facts(WIRE_ANTHROPIC_MESSAGES, "{\"max_tokens\":32000}")->max_output, 32000);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":10,\"n\":3}")->max_output, 10);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_completion_tokens\":20,\"max_tokens\":10}")
			  ->max_output,
		  20);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":null,\"n\":null}")->max_output, -1);
	CHECK_INT(facts(WIRE_OPENAI_RESPONSES, "{\"max_output_tokens\":5}")->max_output, 5);
	CHECK_INT(facts(WIRE_GEMINI,
			"{\"generationConfig\":{\"maxOutputTokens\":7,\"candidateCount\":2}}")
			  ->max_output,
		  7);
	CHECK_INT(
		facts(WIRE_GEMINI, "{\"generation_config\":{\"max_output_tokens\":7}}")->max_output,
		7);
	/* Nonsense stays within bounds. */
	CHECK(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":1e300,\"n\":99999999999}")->max_output > 0);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":-5,\"n\":-1}")->max_output, -1);
	/* What stands twice counts as the worst of both. */
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":9,\"max_tokens\":5}")->max_output, 9);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":5,\"max_tokens\":9}")->max_output, 9);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":5,\"max_tokens\":null}")->max_output, -1);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":null,\"max_tokens\":5}")->max_output, -1);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":null,\"max_completion_tokens\":5}")->max_output, 5);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"max_tokens\":\"5\"}")->max_output, -1);
}

/* How many answers a request may come to. */
static void output_answers(void)
{
	static const struct {
		const char *body;
		int64_t want;
	} cases[] = {
		{ "{}", 1 },
		{ "{\"n\":3}", 3 },
		{ "{\"n\":null}", 1 },
		{ "{\"n\":0}", 1 },
		{ "{\"n\":1,\"n\":8}", 8 },
		{ "{\"n\":8,\"n\":1}", 8 },
		{ "{\"n\":2,\"best_of\":5}", 5 },
		{ "{\"n\":7,\"best_of\":5}", 7 },
		{ "{\"prompt\":\"a\"}", 1 },
		{ "{\"prompt\":[\"a\"]}", 1 },
		{ "{\"prompt\":[\"a\",\"b\",\"c\"]}", 3 },
		{ "{\"prompt\":[\"a\",\"b\"],\"prompt\":[\"c\"]}", 3 },
		{ "{\"prompt\":[1,2,3]}", 1 },
		{ "{\"prompt\":[[1,2],[3]],\"best_of\":10}", 20 },
		{ "{\"n\":99999999999,\"prompt\":[\"a\",\"b\"]}", 2 << 20 },
		{ "{\"n\":\"4\"}", 1 << 20 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(facts(WIRE_OPENAI_CHAT, cases[i].body)->answers, cases[i].want);
	CHECK_INT(facts(WIRE_GEMINI, "{\"generationConfig\":{\"candidateCount\":2,\"candidate_count\":6}}")->answers, 6);
	CHECK_INT(facts(WIRE_ANTHROPIC_MESSAGES, "{\"n\":5}")->answers, 1);
	/* Tokens given as their numbers are no text. */
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"prompt\":[1,22,333]}")->token_ids, 3);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"prompt\":[[1,22],[333]]}")->token_ids, 3);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"input\":[[1,22],[333]]}")->token_ids, 3);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"input\":[1,22,333,4]}")->token_ids, 4);
	CHECK_INT(facts(WIRE_OPENAI_CHAT, "{\"messages\":[1,2]}")->token_ids, 0);
}

/* ---------------------------------------------------------------- tool results */

static void check_results(const struct req_facts *f, const char *want)
{
	struct buf out;

	buf_init(&out, 4096);
	for (unsigned i = 0; i < f->n_results; i++)
		buf_printf(&out, "%s%s%s%s %lu%s", i ? ", " : "", f->results[i].call_id,
			   f->results[i].name[0] ? "/" : "", f->results[i].name,
			   (unsigned long)f->results[i].bytes,
			   f->results[i].is_error ? " error" : "");
	buf_append(&out, "", 1);
	CHECK_STR(out.data, want);
	buf_fini(&out);
}

static void anthropic_results(void)
{
	check_results(
		facts(WIRE_ANTHROPIC_MESSAGES,
		      "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
		      "\"tool_use_id\":\"old\",\"content\":\"x\"}]},"
		      "{\"content\":[{\"type\":\"tool_use\",\"id\":\"a\"}],\"role\":\"assistant\"},"
		      "{\"role\":\"user\",\"content\":["
		      "{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":\"h\\ni\"},"
		      "{\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"is_error\":true,"
		      "\"tool_use_id\":\"b\",\"type\":\"tool_result\"},"
		      "{\"type\":\"tool_result\",\"tool_use_id\":\"c\"},"
		      "{\"type\":\"text\",\"text\":\"go on\"}]}]}"),
		"a 4, b 28 error, c 0");
	/* The turn is over. */
	check_results(
		facts(WIRE_ANTHROPIC_MESSAGES,
		      "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\","
		      "\"tool_use_id\":\"a\",\"content\":\"x\"}]},"
		      "{\"role\":\"assistant\",\"content\":\"ok\"},{\"role\":\"user\",\"content\":\"?\"}]}"),
		"");
}

static void chat_results(void)
{
	check_results(
		facts(WIRE_OPENAI_CHAT,
		      "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
		      "{\"role\":\"tool\",\"tool_call_id\":\"old\",\"content\":\"x\"},"
		      "{\"role\":\"assistant\",\"tool_calls\":[]},"
		      "{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"fine\"},"
		      "{\"content\":\"Error: no such file\",\"role\":\"tool\",\"tool_call_id\":\"b\"},"
		      "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":[{\"type\":\"text\","
		      "\"text\":\"Exit code: 2\\nbad\"}]},"
		      "{\"role\":\"tool\",\"tool_call_id\":\"d\",\"content\":\"Exit code: 0\\n\"}]}"),
		"a 4, b 19 error, c 44 error, d 14");
}

static void responses_results(void)
{
	check_results(
		facts(WIRE_OPENAI_RESPONSES,
		      "{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"old\",\"output\":\"x\"},"
		      "{\"type\":\"reasoning\"},{\"type\":\"function_call\",\"call_id\":\"a\"},"
		      "{\"type\":\"function_call_output\",\"call_id\":\"a\",\"output\":\"ok\"},"
		      "{\"type\":\"custom_tool_call_output\",\"call_id\":\"b\",\"output\":"
		      "\"Chunk ID: 1\\nProcess exited with code 1\\n\"},"
		      "{\"type\":\"local_shell_call_output\",\"call_id\":\"c\",\"output\":[{\"text\":\"x\"}]},"
		      "{\"type\":\"message\",\"role\":\"user\",\"content\":\"x\"}]}"),
		"a 2, b 41 error, c 14");
}

static void gemini_results(void)
{
	check_results(
		facts(WIRE_GEMINI,
		      "{\"contents\":[{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"name\":\"f\"}}]},"
		      "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"f\",\"response\":"
		      "{\"output\":\"x\"}}},{\"functionResponse\":{\"response\":{\"error\":\"no\"},"
		      "\"id\":\"i\",\"name\":\"g\"}}]}]}"),
		"/f 14, i/g 14 error");
	check_results(facts(WIRE_GEMINI,
			    "{\"contents\":[{\"role\":\"function\",\"parts\":["
			    "{\"function_response\":{\"name\":\"f\",\"response\":{}}}]}]}"),
		      "/f 2");
}

static void results_are_bounded(void)
{
	struct buf body;
	const struct req_facts *f;

	buf_init(&body, 1 << 20);
	buf_puts(&body, STR("{\"messages\":["));
	for (int i = 0; i < 100; i++)
		buf_printf(&body, "%s{\"role\":\"tool\",\"tool_call_id\":\"%d\",\"content\":\"x\"}",
			   i ? "," : "", i);
	buf_puts(&body, STR("]}"));
	req_tap_start(tap, WIRE_OPENAI_CHAT);
	req_tap_feed(tap, buf_head(&body), buf_len(&body));
	f = req_tap_end(tap);
	CHECK_INT(f->n_results, TOOL_RESULTS_MAX);
	CHECK_INT(f->n_results_dropped, 100 - TOOL_RESULTS_MAX);
	buf_fini(&body);
}

/* ---------------------------------------------------------------- sessions and fingerprints */

static void sessions(void)
{
	CHECK_STR(
		facts(WIRE_ANTHROPIC_MESSAGES,
		      "{\"metadata\":{\"user_id\":\"{\\\"device_id\\\":\\\"d\\\",\\\"session_id\\\": "
		      "\\\"5f0c-11\\\"}\"}}")
			->session,
		"5f0c-11");
	CHECK_STR(facts(WIRE_ANTHROPIC_MESSAGES,
			"{\"metadata\":{\"user_id\":\"user_ab_account_12_session_5f0c-11\"}}")
			  ->session,
		  "5f0c-11");
	CHECK_STR(facts(WIRE_ANTHROPIC_MESSAGES, "{\"metadata\":{\"user_id\":\"somebody\"}}")
			  ->session,
		  "");
	CHECK_STR(facts(WIRE_OPENAI_RESPONSES, "{\"prompt_cache_key\":\"k-1\"}")->session, "k-1");
	CHECK_STR(facts(WIRE_OPENAI_RESPONSES,
			"{\"prompt_cache_key\":\"k\",\"conversation\":{\"id\":\"c\"}}")
			  ->session,
		  "c");
	CHECK_STR(facts(WIRE_OPENAI_CHAT, "{\"user\":\"u\",\"session_id\":\"s\"}")->session, "s");
	CHECK_STR(
		facts(WIRE_OPENAI_CHAT, "{\"metadata\":{\"user_id\":{\"session_id\":1}}}")->session,
		"");
}

static uint64_t anthropic_print(const char *system, const char *rest)
{
	char body[1024];

	snprintf(body, sizeof(body),
		 "{\"system\":%s,\"messages\":[{\"role\":\"user\",\"content\":%s]}", system, rest);
	return facts(WIRE_ANTHROPIC_MESSAGES, body)->fingerprint;
}

static void fingerprints_follow_the_start(void)
{
	uint64_t one = anthropic_print("\"s\"", "\"hi\"}");

	CHECK(one != 0);
	CHECK(one == anthropic_print("\"s\"", "\"hi\"},{\"role\":\"assistant\",\"content\":\"x\"},"
					      "{\"role\":\"user\",\"content\":\"more\"}"));
	CHECK(one == anthropic_print("[{\"type\":\"text\",\"text\":\"s\"}]",
				     "[{\"type\":\"text\",\"text\":\"h\\u0069\"}]}"));
	/* The billing line of Claude Code changes with each request. */
	CHECK(one == anthropic_print(
			     "[{\"text\":\"x-anthropic-billing-header: cch=77\"},{\"text\":\"s\"}]",
			     "\"hi\"}"));
	CHECK(one != anthropic_print("\"s\"", "\"ho\"}"));
	CHECK(one != anthropic_print("\"t\"", "\"hi\"}"));
	CHECK_INT(facts(WIRE_ANTHROPIC_MESSAGES, "{\"messages\":[]}")->fingerprint, 0);
	CHECK_INT(facts(WIRE_ANTHROPIC_MESSAGES, "{\"system\":\"s\"}")->fingerprint, 0);
}

static void fingerprints_of_the_other_formats(void)
{
	uint64_t chat =
		facts(WIRE_OPENAI_CHAT, "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
					"{\"content\":\"q\",\"role\":\"user\"}]}")
			->fingerprint;

	CHECK(chat != 0);
	CHECK(chat ==
	      facts(WIRE_OPENAI_CHAT,
		    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
		    "\"content\":\"q\"},{\"role\":\"system\",\"content\":\"t\"}]}")
		      ->fingerprint);
	CHECK(facts(WIRE_OPENAI_RESPONSES, "{\"instructions\":\"s\",\"input\":\"q\"}")
		      ->fingerprint ==
	      facts(WIRE_OPENAI_RESPONSES,
		    "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":"
		    "\"input_text\",\"text\":\"q\"}]}],\"instructions\":\"s\"}")
		      ->fingerprint);
	/* What goes on from a stored answer does not show its start. */
	CHECK_INT(facts(WIRE_OPENAI_RESPONSES, "{\"previous_response_id\":\"r\",\"input\":\"q\"}")
			  ->fingerprint,
		  0);
	CHECK(facts(WIRE_GEMINI,
		    "{\"systemInstruction\":{\"parts\":[{\"text\":\"s\"}]},\"contents\":[{"
		    "\"parts\":[{\"text\":\"q\"}]}]}")
		      ->fingerprint ==
	      facts(WIRE_GEMINI, "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"q\"}]}],"
				 "\"system_instruction\":{\"parts\":{\"text\":\"s\"}}}")
		      ->fingerprint);
}

static void text_is_counted_without_images(void)
{
	char body[4096];
	const struct req_facts *f;

	snprintf(
		body, sizeof(body),
		"{\"contents\":[{\"parts\":[{\"inlineData\":{\"data\":\"%02000d\"}},{\"text\":\"four\"}]}]}",
		1);
	f = facts(WIRE_GEMINI, body);
	CHECK_INT(f->text_bytes, strlen("contentspartsinlineDatadatatextfour"));
	req_tap_free(tap);
	tap = NULL;
}

TESTS(T(usage_is_asked_for), T(usage_is_left_alone), T(models), T(long_models_are_cut_and_flagged),
      T(what_is_no_json), T(output_bounds), T(output_answers), T(anthropic_results), T(chat_results),
      T(responses_results), T(gemini_results), T(results_are_bounded), T(sessions),
      T(fingerprints_follow_the_start), T(fingerprints_of_the_other_formats),
      T(text_is_counted_without_images))
