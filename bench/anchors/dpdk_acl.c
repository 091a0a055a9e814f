/* First match by DPDK's ACL library, driven over pipes: dpdk_acl FAMILY RULES KEYS... < commands > answers
 *
 * RULES and KEYS are packed structs as below, in the machine's byte order except where a key says network order.
 * First answer: "built MILLISECONDS ADDING_MILLISECONDS BYTES", or "failed CODE".
 * Command "KEYS_NUMBER ALGORITHM PASSES" (0 scalar, 1 AVX2): passes over all keys, answer: nanoseconds altogether.
 * Command "KEYS_NUMBER -1 1": one pass, answer: "results", then one uint32 per key: number of the rule plus one, 0 for none.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_malloc.h>

#define FIELDS 7
#define BURST 256
#define MAX_KEYS 8

struct entry { /* one rule with one prefix and one port; protocol_mask 0: any */
	uint32_t rule, length, network[4];
	uint16_t first_port, last_port;
	uint8_t protocol, protocol_mask, padding[2];
};

struct key { /* network order; addresses of IPv4 use word 0 only and are 16 bytes in memory */
	uint8_t protocol, padding[3];
	uint32_t address[4];
	uint16_t source_port, port;
};

struct key4 {
	uint8_t protocol, padding[3];
	uint32_t address;
	uint16_t source_port, port;
};

RTE_ACL_RULE_DEF(acl_rule, FIELDS);

static double now_ns(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1e9 + at.tv_nsec;
}

static void *read_all(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END))
		exit(2);
	*size = ftell(file);
	rewind(file);
	void *data = malloc(*size + 1);
	if (!data || fread(data, 1, *size, file) != *size)
		exit(2);
	fclose(file);
	return data;
}

static int define(struct rte_acl_config *config, int words)
{
	int at = 0;
	config->defs[at++] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, 0};
	for (int word = 0; word < words; word++, at++)
		config->defs[at] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_MASK, 4, at, at, 4 * at};
	config->defs[at] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_RANGE, 2, at, at, 4 * at};
	config->defs[at + 1] = (struct rte_acl_field_def){RTE_ACL_FIELD_TYPE_RANGE, 2, at + 1, at, 4 * at + 2};
	config->num_fields = at + 2;
	config->num_categories = 1;
	return at;
}

static int add(struct rte_acl_ctx *acl, const struct entry *entry, int words, int ports)
{
	struct acl_rule rule;
	memset(&rule, 0, sizeof rule);
	rule.data.category_mask = 1;
	rule.data.priority = RTE_ACL_MAX_PRIORITY - (int)entry->rule;
	rule.data.userdata = entry->rule + 1;
	rule.field[0].value.u8 = entry->protocol;
	rule.field[0].mask_range.u8 = entry->protocol_mask;
	for (int word = 0; word < words; word++) {
		int bits = (int)entry->length - 32 * word;
		rule.field[1 + word].value.u32 = entry->network[word];
		rule.field[1 + word].mask_range.u32 = bits < 0 ? 0 : bits > 32 ? 32 : bits;
	}
	rule.field[ports].mask_range.u16 = UINT16_MAX;
	rule.field[ports + 1].value.u16 = entry->first_port;
	rule.field[ports + 1].mask_range.u16 = entry->last_port;
	return rte_acl_add_rules(acl, (struct rte_acl_rule *)&rule, 1);
}

static void serve(struct rte_acl_ctx *acl, char **paths, int count, size_t key_size)
{
	const uint8_t **pointers[MAX_KEYS];
	uint32_t *results = NULL;
	size_t sizes[MAX_KEYS], most = 0;
	for (int each = 0; each < count; each++) {
		uint8_t *keys = read_all(paths[each], &sizes[each]);
		sizes[each] /= key_size;
		most = sizes[each] > most ? sizes[each] : most;
		pointers[each] = malloc((sizes[each] + 1) * sizeof(uint8_t *));
		for (size_t at = 0; at < sizes[each]; at++)
			pointers[each][at] = keys + at * key_size;
	}
	results = calloc(most + 1, sizeof *results);
	int which, algorithm, passes;
	while (scanf("%d %d %d", &which, &algorithm, &passes) == 3 && which < count) {
		if (algorithm >= 0)
			rte_acl_set_ctx_classify(acl, algorithm ? RTE_ACL_CLASSIFY_AVX2 : RTE_ACL_CLASSIFY_SCALAR);
		double start = now_ns();
		while (passes-- > 0)
			for (size_t at = 0; at < sizes[which]; at += BURST) {
				size_t left = sizes[which] - at;
				rte_acl_classify(acl, pointers[which] + at, results + at, left < BURST ? left : BURST, 1);
			}
		double spent = now_ns() - start;
		if (algorithm >= 0)
			printf("%.0f\n", spent);
		else {
			printf("results\n");
			fwrite(results, sizeof *results, sizes[which], stdout);
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	char *eal[] = {"dpdk_acl", "--no-huge", "--no-pci", "--no-telemetry", "--log-level", "*:error", "-m", "3072",
		       "--no-shconf", "-l", "0", NULL};
	if (argc < 4 || argc > 3 + MAX_KEYS || rte_eal_init(11, eal) < 0)
		return 2;
	int words = atoi(argv[1]) == 4 ? 1 : 4;
	size_t size;
	struct entry *entries = read_all(argv[2], &size);
	size_t count = size / sizeof *entries;
	struct rte_acl_param param = {.name = "bench", .socket_id = SOCKET_ID_ANY,
				      .rule_size = RTE_ACL_RULE_SZ(FIELDS), .max_rule_num = count + 1};
	struct rte_acl_config config;
	memset(&config, 0, sizeof config);
	int ports = define(&config, words);
	struct rte_acl_ctx *acl = rte_acl_create(&param);
	if (!acl)
		return 2;
	struct rte_malloc_socket_stats before, after;
	double start = now_ns();
	for (size_t at = 0; at < count; at++)
		if (add(acl, &entries[at], words, ports))
			return 2;
	double added = now_ns();
	rte_malloc_get_socket_stats(0, &before);
	int failed = rte_acl_build(acl, &config);
	double built = now_ns();
	rte_malloc_get_socket_stats(0, &after);
	if (failed) {
		printf("failed %d\n", failed);
		return 0;
	}
	printf("built %.3f %.3f %zu\n", (built - added) / 1e6, (added - start) / 1e6,
	       after.heap_allocsz_bytes - before.heap_allocsz_bytes);
	fflush(stdout);
	serve(acl, argv + 3, argc - 3, words == 1 ? sizeof(struct key4) : sizeof(struct key));
	return 0;
}
