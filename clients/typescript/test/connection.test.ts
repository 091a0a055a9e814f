/** Calls that fail: what is asked again, what is not, and what the caller is told. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type ServerUnaryCall, type ServerDuplexStream, type sendUnaryData, status } from "@grpc/grpc-js";
import {
  Client,
  ClientError,
  DeadlineExceeded,
  NotFound,
  Refused,
  ServerFault,
  Unavailable,
  Unimplemented,
  v1,
} from "../src";
import { BadRequest, ErrorInfo, RetryInfo } from "../src/gen/google/rpc/error_details";
import { Fake, detail, failure } from "./fake";

type Apply = ServerUnaryCall<v1.ApplyRequest, v1.ApplyResponse>;

let fake: Fake;
let client: Client;

beforeEach(() => {
  fake = new Fake();
  client = new Client(fake.address, { deadlineS: 10 });
});
afterEach(() => {
  client.close();
  fake.stop();
});

/** Serve a unary method; returns the requests that come. */
async function serve<Q, A>(
  name: string,
  answer: (attempt: number, request: Q) => A | ReturnType<typeof failure>,
): Promise<Q[]> {
  const requests: Q[] = [];
  await fake.start({
    [name]: (call: ServerUnaryCall<Q, A>, reply: sendUnaryData<A>) => {
      requests.push(call.request);
      const given = answer(requests.length, call.request);
      typeof given === "object" && given !== null && "metadata" in given ? reply(given) : reply(null, given as A);
    },
  });
  return requests;
}

const POD = { pod: { metadata: { name: "web", namespace: "shop" } } };
const APPLIED = v1.ApplyResponse.create({ revision: 7 });

test("a change is asked again under its id", async () => {
  const requests = await serve<v1.ApplyRequest, v1.ApplyResponse>("apply", (attempt) =>
    attempt < 3 ? failure(status.UNAVAILABLE, "not yet") : APPLIED,
  );
  assert.equal((await client.apply(POD)).revision, 7);
  assert.equal(requests.length, 3);
  assert.match(requests[0]?.requestId ?? "", /^[0-9a-f-]{36}$/);
  assert.equal(new Set(requests.map((each) => each.requestId)).size, 1);
  await client.apply(POD);
  assert.notEqual(requests[3]?.requestId, requests[0]?.requestId);
});

test("a read waits for a server that starts late", async () => {
  const found = client.get("Pod", "web");
  await new Promise((resolve) => setTimeout(resolve, 100));
  const requests = await serve<v1.GetRequest, v1.GetResponse>("get", () =>
    v1.GetResponse.create({ object: POD, revision: 3 }),
  );
  assert.equal((await found).metadata?.name, "web");
  assert.deepEqual(
    requests.map(({ reference }) => [reference?.kind, reference?.namespace, reference?.name]),
    [["Pod", "default", "web"]],
  );
});

test("the server says when to ask again", async () => {
  const retry = detail("RetryInfo", RetryInfo, RetryInfo.create({ retryDelay: { seconds: 0, nanos: 300e6 } }));
  const requests = await serve<v1.ApplyRequest, v1.ApplyResponse>("apply", (attempt) =>
    attempt < 2 ? failure(status.RESOURCE_EXHAUSTED, "too many calls", [retry]) : APPLIED,
  );
  const beginMs = performance.now();
  await client.apply(POD);
  assert.equal(requests.length, 2);
  assert.ok(performance.now() - beginMs >= 290);
});

test("what is no use to ask again is told at once, with all that is known", async () => {
  const field = "items[0].object.pod.spec.host_network";
  const requests = await serve<v1.ApplyRequest, v1.ApplyResponse>("apply", () =>
    failure(status.INVALID_ARGUMENT, "refused", [
      detail("ErrorInfo", ErrorInfo, { reason: "SCHEMA", domain: "ovnk.dev", metadata: { kind: "Pod" } }),
      detail(
        "BadRequest",
        BadRequest,
        BadRequest.create({ fieldViolations: [{ field, description: "is no truth value" }] }),
      ),
      { typeUrl: "type.googleapis.com/google.rpc.Unheard", value: Buffer.from([1]) },
    ]),
  );
  await assert.rejects(client.apply(POD), (error: Refused) => {
    assert.ok(error instanceof Refused && error instanceof ClientError);
    assert.equal(error.name, "Refused");
    assert.equal(error.code, status.INVALID_ARGUMENT);
    assert.equal(error.message, "refused");
    assert.equal(error.reason, "SCHEMA");
    assert.deepEqual(error.details, { kind: "Pod" });
    assert.deepEqual(error.violations, [{ field, description: "is no truth value", index: 0 }]);
    return true;
  });
  assert.equal(requests.length, 1);
});

test("details that cannot be read do not hide the failure", async () => {
  const broken = failure(status.NOT_FOUND, "no such pod");
  broken.metadata?.set("grpc-status-details-bin", Buffer.from([0xff, 0xff, 0xff]));
  await serve<v1.GetRequest, v1.GetResponse>("get", () => broken);
  await assert.rejects(client.get("Pod", "web"), (error: NotFound) => {
    assert.ok(error instanceof NotFound);
    assert.match(error.message, /no such pod/);
    return true;
  });
});

test("answers of a resolver are sent once, whatever happens", async () => {
  const requests = await serve<v1.PushAnswersRequest, v1.PushAnswersResponse>("pushAnswers", () =>
    failure(status.UNAVAILABLE, "gone"),
  );
  await assert.rejects(client.pushAnswers([{ name: "example.com" }]), Unavailable);
  assert.equal(requests.length, 1);
});

test("a call has a deadline", async () => {
  await fake.start({ get: () => undefined });
  await assert.rejects(client.get("Pod", "web", { deadlineS: 0.2 }), (error: DeadlineExceeded) => {
    assert.ok(error instanceof DeadlineExceeded);
    assert.match(error.message, /no answer within 0.2 s/);
    return true;
  });
});

test("a signal ends a call, and the pause between two attempts", async () => {
  await fake.start({
    get: (_: unknown, reply: sendUnaryData<v1.GetResponse>) => reply(failure(status.UNAVAILABLE, "gone")),
  });
  for (const waitMs of [0, 200]) {
    const leaving = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => leaving.abort(reason), waitMs);
    await assert.rejects(client.get("Pod", "web", { signal: leaving.signal }), reason);
  }
  await assert.rejects(client.get("Pod", "web", { signal: AbortSignal.abort(new Error("before")) }), /before/);
});

test("closing ends what is under way", async () => {
  await fake.start({ get: () => undefined });
  const asked = client.get("Pod", "web");
  const beginMs = performance.now();
  setTimeout(() => client.close(), 50);
  await assert.rejects(asked, /the client is closed/);
  assert.ok(performance.now() - beginMs < 5_000, "it did not wait for its deadline");
  await assert.rejects(client.get("Pod", "web"), /the client is closed/);
});

test("a server that lacks a service says so", async () => {
  await fake.start({ get: () => undefined });
  await assert.rejects(client.info(), Unimplemented);
});

test("an answer without what was asked for is the server's fault", async () => {
  await serve<v1.GetRequest, v1.GetResponse>("get", () => v1.GetResponse.create());
  await assert.rejects(client.get("Pod", "web"), ServerFault);
});

test("many questions go out no faster than they are read", async () => {
  let taken = 0;
  let most = 0;
  await fake.start({
    traceMany: (call: ServerDuplexStream<v1.TraceManyRequest, v1.TraceManyResponse>) => {
      call.on("data", ({ id }: v1.TraceManyRequest) => {
        most = Math.max(most, taken - Number(id));
        call.write(v1.TraceManyResponse.create({ id, answer: { reason: id } }));
      });
      call.on("end", () => call.end());
    },
  });
  const questions = function* () {
    for (; taken < 5_000; taken++) {
      yield { source: `shop/${"x".repeat(500)}`, target: "192.0.2.1:80" };
    }
  };
  const ids: string[] = [];
  for await (const { id, answer } of client.traceMany(questions())) {
    assert.equal(answer?.reason, id);
    ids.push(id);
  }
  assert.deepEqual(
    ids,
    Array.from({ length: 5_000 }, (_, number) => String(number)),
  );
  assert.ok(most < 2_500, `${most} questions were under way`);
});

test("an error of the questions' source reaches the caller", async () => {
  await fake.start({ traceMany: () => undefined });
  const questions = function* () {
    yield { source: "a", target: "b" };
    throw new RangeError("no more");
  };
  await assert.rejects(client.traceMany(questions()).next(), RangeError);
});

test("addresses that nobody should speak to are refused", () => {
  for (const address of ["192.0.2.1:443", "example.com:443", "127.0.0.1", "host:0", "::1:443", ""]) {
    assert.throws(() => new Client(address), TypeError, address);
  }
  assert.throws(() => new Client("unix:/s", { tls: { ca: "", cert: "", key: "" } }), TypeError);
  assert.throws(() => new Client("h:1", { tls: { ca: "/none", cert: "", key: "" } }), /ENOENT/);
  for (const address of ["127.0.0.1:1", "tcp:127.0.0.1:1", "localhost:1", "[::1]:1"]) {
    new Client(address).close();
  }
});
