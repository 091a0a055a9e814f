/** Nothing that an author says is lost on the way to the server, and nothing that a newer server said. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Given, Refused, kindOf, messageOf, reference, referenceOf, v1 } from "../src";
import { KINDS } from "../src/gen/kinds";
import { asObjects } from "../src/object";

test("what is left out is not there", () => {
  const [object] = asObjects([
    { egressFirewall: { metadata: { name: "default" }, spec: { egress: [{ type: "Deny" }] } } },
  ]);
  assert.ok(object);
  assert.equal(kindOf(object), "EgressFirewall");
  assert.deepEqual(referenceOf(object), { kind: "EgressFirewall", namespace: "", name: "default" });
  const decoded = v1.Object.decode(v1.Object.encode(object).finish());
  assert.deepEqual(decoded, object);
  assert.equal(messageOf("EgressFirewall", decoded)?.spec?.egress[0]?.ports.length, 0);
  assert.equal(messageOf("Pod", decoded), undefined);
});

test("a field that no message has is refused, with its place", () => {
  const given = [
    { pod: { metadata: { name: "a", labels: { app: "web" } } } },
    {
      egressFirewall: { spec: { egress: [{ type: "Allow" }, { type: "Deny", to: { cidr: "0.0.0.0/0" } }] } },
      deployment: {},
    },
  ] as Given[];
  assert.throws(
    () => asObjects(given),
    (error: Refused) => {
      assert.ok(error instanceof Refused);
      assert.deepEqual(
        error.violations.map(({ field, index }) => [field, index]),
        [
          ["objects[1].egressFirewall.spec.egress[1].to.cidr", 1],
          ["objects[1].deployment", 1],
        ],
      );
      return true;
    },
  );
});

test("what a newer server wrote stays with an object that is changed", () => {
  const [object] = asObjects([
    { egressFirewall: { metadata: { name: "default" }, spec: { egress: [{ type: "Deny" }] } } },
  ]);
  assert.ok(object?.egressFirewall?.spec);
  const newer = Buffer.from([...v1.EgressFirewallSpec.encode(object.egressFirewall.spec).finish(), 0xf8, 0x07, 42]);
  const read = v1.EgressFirewallSpec.decode(newer);
  const [changed] = asObjects([
    { egressFirewall: { ...object.egressFirewall, spec: { ...read, egress: [...read.egress, { type: "Allow" }] } } },
  ]);
  const sent = v1.EgressFirewallSpec.encode(changed?.egressFirewall?.spec ?? v1.EgressFirewallSpec.create()).finish();
  assert.deepEqual(Buffer.from(sent).subarray(-3), newer.subarray(-3));
  assert.equal(v1.EgressFirewallSpec.decode(sent).egress.length, 2);
});

test("every kind has its field", () => {
  const empty = v1.Object.create();
  assert.deepEqual(
    Object.values(KINDS)
      .map(({ field }) => field)
      .sort(),
    Object.keys(empty)
      .filter((field) => field !== "_unknownFields")
      .sort(),
  );
  assert.equal(kindOf(empty), undefined);
  assert.equal(referenceOf(empty), undefined);
});

test("a reference names a namespace where the kind has one", () => {
  assert.deepEqual(reference("Pod", "web"), { kind: "Pod", namespace: "default", name: "web" });
  assert.deepEqual(reference("Node", "worker-1", "shop"), { kind: "Node", namespace: "", name: "worker-1" });
});
