/** The client and the real service: what is kept, told, refused and watched, also over the service's death. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { ModuleKind, ScriptTarget, transpileModule } from "typescript";
import {
  Client,
  Conflict,
  DeadlineExceeded,
  Denied,
  Exists,
  type Given,
  NotFound,
  Refused,
  Unavailable,
  reference,
  referenceOf,
  v1,
} from "../../src";
import { Service, setting } from "./server";

const run = promisify(execFile);
const service = new Service();
const client = new Client(service.address);

before(async () => {
  await service.start();
  await client.apply([
    {
      node: { metadata: { name: "worker-1" }, status: { addresses: [{ type: "InternalIP", address: "192.0.2.11" }] } },
    },
    { namespace: { metadata: { name: "shop" } } },
    pod("web", "shop"),
    pod("db", "shop"),
  ]);
});
after(async () => {
  client.close();
  await service.kill();
});

function pod(name: string, namespace: string): Given {
  return { pod: { metadata: { name, namespace, labels: { app: name } }, spec: { nodeName: "worker-1" } } };
}

function firewall(namespace: string, ...cidrs: string[]): Given {
  const egress = cidrs.map((cidrSelector) => ({ type: "Deny", to: { cidrSelector } }));
  return { egressFirewall: { metadata: { name: "default", namespace }, spec: { egress } } };
}

async function collect<T>(answers: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const answer of answers) {
    all.push(answer);
  }
  return all;
}

test("what is applied is there, and unchanged when it is applied again", async () => {
  const applied = await client.apply(firewall("shop", "203.0.113.0/24"));
  assert.equal(applied.results[0]?.outcome, "OUTCOME_CREATED");
  const found = await client.get("EgressFirewall", "default", { namespace: "shop" });
  assert.equal(found.spec?.egress[0]?.to?.cidrSelector, "203.0.113.0/24");
  assert.equal(found.metadata?.resourceVersion, `r${applied.revision}`);
  const again = await client.apply(firewall("shop", "203.0.113.0/24"));
  assert.equal(again.results[0]?.outcome, "OUTCOME_UNCHANGED");
  assert.equal(again.results[0]?.resourceVersion, applied.results[0]?.resourceVersion);
});

test("an object that was read can be changed and applied", async () => {
  await client.apply({ namespace: { metadata: { name: "edited", annotations: { note: "1" } } } });
  const namespace = await client.get("Namespace", "edited");
  assert.ok(namespace.metadata);
  namespace.metadata.labels["tier"] = "apps";
  await client.apply({ namespace });
  const changed = await client.get("Namespace", "edited");
  assert.equal(changed.metadata?.labels["tier"], "apps");
  assert.equal(changed.metadata?.annotations["note"], "1");
  await assert.rejects(client.apply({ namespace }), Conflict, "it was read before the change");
});

test("the same request is carried out once", async () => {
  const requestId = "7f3d1b52-6c1e-4b8e-9c55-3a1c0e7d9a10";
  const first = await client.apply({ namespace: { metadata: { name: "once" } } }, { requestId });
  await client.delete(reference("Namespace", "once"));
  const second = await client.apply({ namespace: { metadata: { name: "once" } } }, { requestId });
  assert.deepEqual(second, first);
  await assert.rejects(client.get("Namespace", "once"), NotFound);
});

test("preconditions", async () => {
  const made = { namespace: { metadata: { name: "made" } } };
  await assert.rejects(client.apply(made, { mode: "replace" }), NotFound);
  await client.apply(made, { mode: "create" });
  await assert.rejects(client.apply(made, { mode: "create" }), Exists);
  const item = { reference: reference("Namespace", "made"), resourceVersion: "r1" };
  await assert.rejects(client.delete(item), Conflict);
  const plan = await client.delete(reference("Namespace", "made"), { validateOnly: true });
  assert.equal(plan.plan?.objects[0]?.outcome, "OUTCOME_DELETED");
  await client.delete(reference("Namespace", "made"));
  await assert.rejects(client.delete(reference("Namespace", "made")), NotFound);
  const absent = await client.delete(reference("Namespace", "made"), { allowMissing: true });
  assert.equal(absent.results[0]?.outcome, "OUTCOME_ABSENT");
});

test("what is refused says where, and nothing of the request is kept", async () => {
  const objects = [
    { namespace: { metadata: { name: "unlucky" } } },
    firewall("shop", "192.0.2.0/24", "not-an-address"),
  ];
  await assert.rejects(client.apply(objects), (error: Refused) => {
    assert.ok(error instanceof Refused);
    assert.equal(error.violations[0]?.index, 1);
    assert.equal(error.violations[0]?.field, "items[1].object.egress_firewall.spec.egress[1].to.cidr_selector");
    assert.ok(error.reason);
    return true;
  });
  await assert.rejects(client.get("Namespace", "unlucky"), NotFound);
});

test("all pages of a list show one revision", async () => {
  const names = Array.from({ length: 25 }, (_, number) => `p${String(number).padStart(2, "0")}`);
  await client.apply([{ namespace: { metadata: { name: "paged" } } }, ...names.map((name) => pod(name, "paged"))]);
  const pages: v1.ListResponse[] = [];
  for await (const page of client.list("Pod", { namespace: "paged", pageSize: 10 })) {
    pages.push(page);
    await client.apply(pod(`later-${pages.length}`, "paged"));
  }
  assert.deepEqual(
    pages.map((page) => page.objects.length),
    [10, 10, 5],
  );
  assert.equal(new Set(pages.map((page) => page.revision)).size, 1);
  assert.deepEqual(
    pages.flatMap((page) => page.objects.map((object) => object.pod?.metadata?.name)),
    names,
  );
  const chosen = await collect(client.objects("Pod", { namespace: "paged", labelSelector: "app in (p03, p04)" }));
  assert.deepEqual(
    chosen.map((each) => each.metadata?.name),
    ["p03", "p04"],
  );
});

test("a trace names the rule that decides", async () => {
  await client.apply({ namespace: { metadata: { name: "traced" } } });
  await client.applyAndWait([pod("web", "traced"), firewall("traced", "198.51.100.0/24", "203.0.113.0/24")]);
  const answer = await client.trace({ source: "traced/web", target: "203.0.113.9:443" });
  assert.equal(answer.verdict, "VERDICT_DROP");
  const step = answer.steps.at(-1);
  assert.deepEqual([step?.object?.kind, step?.object?.namespace, step?.rule], ["EgressFirewall", "traced", 1]);
  assert.equal(step?.fieldPath, "spec.egress[1]");

  const targets = ["203.0.113.9:443", "nowhere:80", "192.0.2.200:80"];
  const answers = await collect(client.traceMany(targets.map((target) => ({ source: "traced/web", target }))));
  assert.deepEqual(
    answers.map(({ id, answer, fault }) => [id, answer?.verdict ?? fault?.field]),
    [
      ["0", "VERDICT_DROP"],
      ["1", "target"],
      ["2", "VERDICT_ALLOW"],
    ],
  );
});

test("who may talk to whom", async () => {
  const [first, ...rows] = await collect(client.matrix({ port: 80, namespace: "shop" }));
  assert.deepEqual(first?.targets?.pods, ["shop/db", "shop/web"]);
  assert.deepEqual(
    rows.map(({ row }) => [row?.pod, row?.cells]),
    [
      ["shop/db", ["MATRIX_CELL_SELF", "MATRIX_CELL_ALLOW"]],
      ["shop/web", ["MATRIX_CELL_ALLOW", "MATRIX_CELL_SELF"]],
    ],
  );
});

test("what a change would change", async () => {
  const policy: Given = {
    networkPolicy: {
      metadata: { name: "closed", namespace: "shop" },
      spec: { podSelector: {}, policyTypes: ["Ingress"] },
    },
  };
  const diff = await client.diff(policy);
  assert.equal(diff.objects[0]?.outcome, "OUTCOME_CREATED");
  assert.ok(diff.connections.some(({ change }) => change === "CONNECTION_CHANGE_KIND_CLOSED"));
  await assert.rejects(client.get("NetworkPolicy", "closed", { namespace: "shop" }), NotFound);
});

test("the way of a change", async () => {
  const { revision } = await client.applyAndWait({ namespace: { metadata: { name: "waited" } } });
  const status = await client.status({ revision });
  assert.ok(status.programmedRevision >= revision);
  assert.deepEqual(status.stages.map(({ stage, isReached }) => [stage, isReached]).slice(0, 2), [
    ["STAGE_ACCEPTED", true],
    ["STAGE_PROGRAMMED", true],
  ]);
  const waited = await client.waitRevision(revision, { stage: "enforced", timeoutS: 0.2 });
  assert.equal(waited.isReached, false);
  await assert.rejects(
    client.applyAndWait({ namespace: { metadata: { name: "waited-2" } } }, { stage: "enforced", timeoutS: 0.2 }),
    (error: DeadlineExceeded) => {
      assert.ok(error instanceof DeadlineExceeded);
      assert.ok(Number(error.details["revision"]) > revision);
      return true;
    },
  );
});

test("rows, flows and what else can be asked", async () => {
  await client.apply(firewall("shop", "203.0.113.0/24"));
  const rows = (await collect(client.rows({ table: "ACL", pageSize: 50 }))).flatMap((page) => page.rows);
  assert.ok(rows.some(({ owner }) => owner?.kind === "EgressFirewall" && owner.namespace === "shop"));
  const flows = (await collect(client.flows({ pageSize: 50 }))).flatMap((page) => page.flows);
  assert.ok(flows.length > 0);
  const conditions = (await collect(client.conditions({ kind: "EgressFirewall", namespace: "shop" }))).flatMap(
    (page) => page.objects,
  );
  assert.equal(conditions[0]?.reference?.name, "default");
  assert.ok((await client.pending()).revision >= 0);
  assert.ok((await client.info()).kinds.includes("EgressFirewall"));
  assert.ok((await client.features()).some(({ support }) => support === "SUPPORT_FULL"));
  assert.ok(Array.isArray((await client.events()).events));
});

test("names of firewalls and what a resolver heard of them", async () => {
  const egress = [{ type: "Allow", to: { dnsName: "mirror.example.com" } }];
  await client.apply([
    { namespace: { metadata: { name: "named" } } },
    { egressFirewall: { metadata: { name: "default", namespace: "named" }, spec: { egress } } },
  ]);
  const names = (await collect(client.dnsNames())).flatMap((page) => page.names);
  assert.deepEqual(
    names.map(({ name }) => name),
    ["mirror.example.com"],
  );
  const pushed = await client.pushAnswers([
    { name: "mirror.example.com", outcome: "DNS_OUTCOME_ANSWER", addresses: ["198.51.100.7"], ttl: { seconds: 60 } },
    { name: "unheard.example.com", outcome: "DNS_OUTCOME_ANSWER", addresses: ["198.51.100.8"], ttl: { seconds: 60 } },
  ]);
  assert.deepEqual([pushed.accepted, pushed.ignoredNames], [1, ["unheard.example.com"]]);
  await client.waitRevision(pushed.revision);
  assert.deepEqual((await client.dnsName("mirror.example.com")).addresses, ["198.51.100.7"]);
  await assert.rejects(client.dnsName("unheard.example.com"), NotFound);
});

test("certificates of nodes", async () => {
  const { bundle, authorities } = await client.authority();
  assert.match(bundle, /BEGIN CERTIFICATE/);
  assert.deepEqual(
    authorities.map(({ isSigning }) => isSigning),
    [true],
  );
  const { missingNodes, cipher } = await client.certificateStatus();
  assert.deepEqual([missingNodes, cipher?.mode], [["worker-1"], "Transport"]);
  await assert.rejects(client.signCertificate("nobody", bundle), Refused);
  assert.equal((await client.rotateAuthority()).authorities.length, 2);
});

test("a watch goes on where the service died, without gap or repetition", async () => {
  await client.apply({ namespace: { metadata: { name: "watched" } } });
  const about = { kinds: ["Pod"], namespace: "watched", signal: AbortSignal.timeout(30_000) } as const;
  const watched = new Map<string, number>();
  const told: string[] = [];
  let step = 0;
  for await (const event of client.watch(about)) {
    assert.notEqual(event.type, "resync");
    if ("object" in event) {
      const name = referenceOf(event.object)?.name ?? "";
      assert.ok(event.revision >= Math.max(0, ...watched.values()), "out of order");
      watched.set(name, event.revision);
      // A modified one got its address, whenever that was decided.
      if (event.type !== "modified") {
        told.push(`${event.type} ${name}`);
      }
    }
    if (event.type === "synced") {
      await client.apply([pod("a", "watched"), pod("b", "watched"), pod("c", "watched")]);
    } else if (told.length === 2 && step === 0) {
      // In the middle of a revision: two of its three pods were told.
      step = 1;
      await service.kill();
      await service.start();
      await client.apply(pod("d", "watched"));
      await client.delete(reference("Pod", "a", "watched"));
    } else if (told.at(-1) === "deleted a") {
      break;
    }
  }
  assert.deepEqual(told, ["added a", "added b", "added c", "added d", "deleted a"]);
});

test("certificates say who calls", async () => {
  const files = JSON.parse(setting("TEST_TLS")) as Record<
    "address" | "ca" | "cert" | "key" | "strangerCert" | "strangerKey",
    string
  >;
  const { address, ca, cert, key } = files;
  const reader = new Client(address, { tls: { ca, cert, key } });
  const stranger = new Client(address, { tls: { ca, cert: files.strangerCert, key: files.strangerKey }, deadlineS: 1 });
  const elsewhere = new Client(address, { tls: { ca, cert, key, name: "example.org" }, deadlineS: 1 });
  try {
    assert.equal((await reader.get("Namespace", "shop")).metadata?.name, "shop");
    await assert.rejects(reader.apply({ namespace: { metadata: { name: "shop" } } }), Denied);
    await assert.rejects(reader.get("Pod", "web", { namespace: "shop" }), Denied);
    await assert.rejects(stranger.get("Namespace", "shop"), Unavailable, "another authority vouches for it");
    await assert.rejects(elsewhere.get("Namespace", "shop"), Unavailable, "the server has another name");
  } finally {
    [reader, stranger, elsewhere].forEach((each) => each.close());
  }
});

test("what the package's page shows runs", async () => {
  const page = readFileSync(setting("TEST_README"), "utf8");
  const { outputText } = transpileModule(page, {
    compilerOptions: { module: ModuleKind.ES2022, target: ScriptTarget.ES2022 },
  });
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", outputText]);
  assert.equal(stdout, "added 1\n");
});

test("both ways to load the package, and the example", async () => {
  const names =
    "import { Client, Refused, v1 } from '@ovnk/client'; console.log(typeof Client, Refused.name, typeof v1.Pod);";
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", names]);
  assert.equal(stdout.trim(), "function Refused object");

  const example = join(__dirname, "..", "..", "examples", "watch.js");
  const told = await run(process.execPath, [example, service.address, "EgressFirewall", "--once"]);
  assert.match(told.stdout, /^added +EgressFirewall +shop\/default +r\d+$/m);
  assert.match(told.stdout, /^synced at revision \d+$/m);
});
