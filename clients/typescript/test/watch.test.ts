/** Watches whose connections break, end and are refused at every place. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type ServerWritableStream, status } from "@grpc/grpc-js";
import { Client, Denied, Unavailable, type WatchEvent, type WatchOptions, v1 } from "../src";
import { ErrorInfo } from "../src/gen/google/rpc/error_details";
import { Fake, detail, failure } from "./fake";

type Call = ServerWritableStream<v1.WatchRequest, v1.WatchResponse>;
type Told = Parameters<typeof v1.WatchResponse.fromPartial>[0];

const PATIENCE_MS = 10_000;

let fake: Fake;
let client: Client;
let requests: v1.WatchRequest[];

beforeEach(() => {
  fake = new Fake();
  client = new Client(fake.address, { deadlineS: 10 });
  requests = [];
});
afterEach(() => {
  client.close();
  fake.stop();
});

/** One script for each connection; the last one is repeated. */
async function serve(...scripts: ((call: Call) => void)[]): Promise<void> {
  await fake.start({
    watch: (call: Call) => {
      requests.push(call.request);
      const script = scripts[Math.min(requests.length, scripts.length) - 1];
      script?.(call);
    },
  });
}

/** What happens to events is: some are told, then the connection is lost, ended in order, or stays. */
function tells(events: Told[], end?: "lost" | "ended" | number): (call: Call) => void {
  return (call) => {
    for (const event of events) {
      call.write(v1.WatchResponse.fromPartial(event));
    }
    if (end === "ended") {
      call.end();
    } else if (end !== undefined) {
      const code = end === "lost" ? status.UNAVAILABLE : end;
      // Not in the same breath: a status would overtake what was written.
      setImmediate(() => call.emit("error", failure(code, "told to")));
    }
  };
}

function change(type: "added" | "modified" | "deleted", name: string, revision: number, resumeRevision: number): Told {
  const object = { pod: { metadata: { name, namespace: "shop" } } };
  return { [type]: { object }, revision, resumeRevision };
}

const synced = (revision: number): Told => ({ synced: { objects: 1 }, revision, resumeRevision: revision });

/** Events as short words, until one of them is `last`. */
async function words(last: string, options: WatchOptions = {}): Promise<string[]> {
  const told: string[] = [];
  for await (const event of client.watch({ ...options, signal: AbortSignal.timeout(PATIENCE_MS) })) {
    told.push(word(event));
    if (word(event) === last) {
      return told;
    }
  }
  throw new Error("a watch does not end by itself");
}

function word(event: WatchEvent): string {
  return "object" in event ? `${event.type} ${event.object.pod?.metadata?.name}` : event.type;
}

test("a revision that was seen in part is told once", async () => {
  await serve(
    tells([change("added", "a", 3, 0), synced(5), change("modified", "a", 6, 5), change("added", "b", 6, 5)], "lost"),
    tells([change("modified", "a", 6, 5), change("added", "b", 6, 5)], "lost"),
    tells([
      change("modified", "a", 6, 5),
      change("added", "b", 6, 5),
      change("added", "c", 6, 6),
      change("deleted", "a", 7, 7),
    ]),
  );
  assert.deepEqual(await words("deleted a"), ["added a", "synced", "modified a", "added b", "added c", "deleted a"]);
  assert.deepEqual(
    requests.map((each) => each.resumeRevision),
    [undefined, 5, 5],
  );
});

test("the same object may change again in the next revision", async () => {
  await serve(
    tells(
      [synced(5), change("modified", "a", 6, 5), change("modified", "b", 6, 6), change("modified", "a", 7, 7)],
      "lost",
    ),
    tells([change("deleted", "a", 8, 8)]),
  );
  assert.deepEqual(await words("deleted a"), ["synced", "modified a", "modified b", "modified a", "deleted a"]);
  assert.equal(requests[1]?.resumeRevision, 7);
});

test("a bookmark moves the place to resume from, and a stream that ends in order is resumed, too", async () => {
  await serve(
    tells([synced(5), { bookmark: {}, revision: 9, resumeRevision: 9 }], "ended"),
    tells([change("added", "b", 10, 10)]),
  );
  const watch = client.watch({ signal: AbortSignal.timeout(PATIENCE_MS) });
  const told: string[] = [];
  for await (const event of watch) {
    told.push(word(event));
    if (event.type === "added") {
      break;
    }
  }
  assert.deepEqual(told, ["synced", "bookmark", "added b"]);
  assert.equal(requests[1]?.resumeRevision, 9);
  assert.equal(requests[1]?.sendInitial, undefined);
  assert.equal(watch.resumeRevision, 10);
});

test("what was compacted is listed anew", async () => {
  await serve(tells([], status.OUT_OF_RANGE), tells([change("added", "a", 3, 0), synced(20)]));
  assert.deepEqual(await words("synced", { resumeRevision: 2 }), ["resync", "added a", "synced"]);
  assert.equal(requests[0]?.resumeRevision, 2);
  assert.deepEqual([requests[1]?.resumeRevision, requests[1]?.sendInitial], [undefined, true]);
});

test("other rights are a new beginning", async () => {
  const info = ErrorInfo.create({ reason: "POLICY_CHANGED", domain: "ovnk.dev" });
  await serve(
    (call) => {
      tells([synced(5)])(call);
      const details = [detail("ErrorInfo", ErrorInfo, info)];
      setImmediate(() => call.emit("error", failure(status.PERMISSION_DENIED, "other rights", details)));
    },
    tells([change("added", "a", 3, 0), synced(20)]),
  );
  const told: string[] = [];
  for await (const event of client.watch({ signal: AbortSignal.timeout(PATIENCE_MS) })) {
    told.push(word(event));
    if (event.revision === 20) {
      break;
    }
  }
  assert.deepEqual(told, ["synced", "resync", "added a", "synced"]);
  assert.deepEqual([requests[1]?.resumeRevision, requests[1]?.sendInitial], [undefined, true]);
});

test("a watch that was too slow lists anew", async () => {
  await serve(
    tells([synced(5), { resyncRequired: { reason: "slow" }, revision: 6 }]),
    tells([change("added", "b", 7, 0), synced(8)]),
  );
  assert.deepEqual((await words("added b")).concat(await words("synced")), [
    "synced",
    "resync",
    "added b",
    "added b",
    "synced",
  ]);
});

test("a list that was interrupted starts over", async () => {
  await serve(
    tells([change("added", "a", 3, 0), change("added", "b", 3, 0)], "lost"),
    tells([change("added", "b", 3, 0), synced(5)]),
  );
  assert.deepEqual(await words("synced"), ["added a", "added b", "resync", "added b", "synced"]);
});

test("kinds and events that are newer than the client are passed over", async () => {
  await serve(tells([{ added: { object: {} }, revision: 3 }, { revision: 4 }, synced(5)]));
  assert.deepEqual(await words("synced"), ["synced"]);
});

test("what waiting cannot mend is thrown", async () => {
  await serve(tells([synced(5)], "lost"), tells([], status.PERMISSION_DENIED));
  await assert.rejects(words("never"), Denied);
});

test("a server that never was there is given up", async () => {
  client.close();
  client = new Client(fake.address, { deadlineS: 0.3 });
  await assert.rejects(words("never"), Unavailable);
});

test("leaving the loop ends the call", { timeout: PATIENCE_MS }, async () => {
  const cancelled = new Promise<void>((resolve) => {
    void serve((call) => {
      call.on("cancelled", resolve);
      tells([synced(5)])(call);
    });
  });
  await words("synced");
  await cancelled;
});

test("a signal ends the watch with its reason", { timeout: PATIENCE_MS }, async () => {
  const leaving = new AbortController();
  const cancelled = new Promise<void>((resolve) => {
    void serve((call) => {
      call.on("cancelled", resolve);
      tells([synced(5)])(call);
    });
  });
  const reason = new Error("enough");
  await assert.rejects(async () => {
    for await (const event of client.watch({ signal: leaving.signal })) {
      assert.equal(event.type, "synced");
      leaving.abort(reason);
    }
  }, reason);
  await cancelled;
});
