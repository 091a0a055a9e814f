/**
 * The client: what the service can be asked, as methods that return promises, or async generators where an answer has
 * many parts. Every call takes an AbortSignal and a deadline, and throws a ClientError when it fails.
 */

import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { v1 } from "./api";
import { type CallOptions, Connection, type ConnectionOptions, type UnaryMethod } from "./connection";
import { DeadlineExceeded, ServerFault } from "./errors";
import { type Given, type Kind, type Message, asObjects, messageOf, reference } from "./object";
import { Watch, type WatchOptions, durationOf } from "./watch";

/** How far a change has come. */
export type Stage = "accepted" | "programmed" | "realized" | "enforced";

/** What pages have in common. */
export interface PageOptions extends CallOptions {
  /** At most so many in one page; the server's own choice when left out. */
  pageSize?: number;
}

export interface ListOptions extends PageOptions {
  /** All that the caller may read when left out. */
  namespace?: string;
  /** As kubectl writes it: "app=web,tier in (a, b)". */
  labelSelector?: string;
  /** As kubectl writes it: "spec.nodeName!=n1". */
  fieldSelector?: string;
}

/** What changes have in common. */
export interface ChangeOptions extends CallOptions {
  /** Change nothing; the answer's plan says what would be changed. */
  validateOnly?: boolean;
  /** The same id gets the same answer for 24 hours, and is carried out once. Made up when left out. */
  requestId?: string;
}

export interface ApplyOptions extends ChangeOptions {
  /** Whether the objects may, must not or must be there already; "apply". */
  mode?: "apply" | "create" | "replace";
}

export interface WaitOptions extends CallOptions {
  /** "programmed". */
  stage?: Stage;
  /** 30 s. */
  timeoutS?: number;
}

/** A request with as little filled in as the caller wants to say. */
type Partly<Q extends { fromPartial(object: never): unknown }> = Parameters<Q["fromPartial"]>[0];

const MODES = {
  apply: v1.ApplyMode.APPLY_MODE_APPLY,
  create: v1.ApplyMode.APPLY_MODE_CREATE_ONLY,
  replace: v1.ApplyMode.APPLY_MODE_REPLACE_ONLY,
};
const STAGES = {
  accepted: v1.Stage.STAGE_ACCEPTED,
  programmed: v1.Stage.STAGE_PROGRAMMED,
  realized: v1.Stage.STAGE_REALIZED,
  enforced: v1.Stage.STAGE_ENFORCED,
};
const ANSWER_S = 5;

/** `new Client("unix:/run/ovnk/ovnk.sock")`, or `HOST:PORT` with certificates. See Connection. */
export class Client {
  private readonly connection: Connection;

  constructor(address: string, options: ConnectionOptions = {}) {
    this.connection = new Connection(address, options);
  }

  /** Ends every call, and the connection. */
  close(): void {
    this.connection.close();
  }

  /** One object with its status. Throws NotFound. */
  async get<K extends Kind>(
    kind: K,
    name: string,
    { namespace, ...call }: CallOptions & { namespace?: string } = {},
  ): Promise<Message<K>> {
    const request = { reference: reference(kind, name, namespace) };
    const { object } = await this.connection.ask(v1.ObjectServiceService.get, request, call);
    const message = object && messageOf(kind, object);
    if (message === undefined) {
      throw new ServerFault(status.INTERNAL, `${this.connection.address}: the answer holds no ${kind}`);
    }
    return message;
  }

  /** Pages that all show one revision, in the order of namespace and name. Throws Expired when the revision is not
   * kept any more half-way. */
  list(
    kind: Kind,
    { signal, deadlineS, ...about }: ListOptions = {},
  ): AsyncGenerator<v1.ListResponse, void, undefined> {
    const request = v1.ListRequest.fromPartial({ kind, ...about });
    return this.pages(v1.ObjectServiceService.list, request, { signal, deadlineS });
  }

  /** The objects of all pages. */
  async *objects<K extends Kind>(kind: K, options: ListOptions = {}): AsyncGenerator<Message<K>, void, undefined> {
    for await (const page of this.list(kind, options)) {
      for (const object of page.objects) {
        const message = messageOf(kind, object);
        if (message !== undefined) {
          yield message;
        }
      }
    }
  }

  /**
   * Creates or changes objects, all or none; durable when this resolves. Each object is as it is to be: what it leaves
   * out is not there. A `metadata.resourceVersion` is a precondition. Throws Refused, Exists, NotFound, Conflict.
   */
  async apply(objects: Given | readonly Given[], options: ApplyOptions = {}): Promise<v1.ApplyResponse> {
    const mode = MODES[options.mode ?? "apply"];
    const items = asObjects(many(objects)).map((object) => ({ object, etag: "", mode }));
    const { validateOnly = false } = options;
    const request = { items, validateOnly, requestId: requestIdOf(options) };
    return this.connection.ask(v1.ObjectServiceService.apply, request, options);
  }

  /**
   * The same, and waits until the change has reached a stage. Throws DeadlineExceeded when it does not in time: the
   * change is accepted all the same, and `details.revision` of the error can be waited for again.
   */
  async applyAndWait(
    objects: Given | readonly Given[],
    options: Omit<ApplyOptions, "validateOnly"> & WaitOptions = {},
  ): Promise<v1.ApplyResponse> {
    const applied = await this.apply(objects, options);
    const { stage = "programmed", timeoutS, signal } = options;
    const waited = await this.waitRevision(applied.revision, { stage, timeoutS, signal });
    if (!waited.isReached) {
      const message = `revision ${applied.revision} is accepted and not ${stage} yet: ${waited.message}`;
      const details = { revision: String(applied.revision) };
      throw new DeadlineExceeded(status.DEADLINE_EXCEEDED, message, { details });
    }
    return applied;
  }

  /** Deletes objects, all or none; a namespace takes everything in it along. `reference` makes what names an object.
   * Throws NotFound unless `allowMissing`, and Conflict. */
  delete(
    references: v1.ObjectReference | v1.DeleteItem | readonly (v1.ObjectReference | v1.DeleteItem)[],
    options: ChangeOptions & { allowMissing?: boolean } = {},
  ): Promise<v1.DeleteResponse> {
    const items = many(references).map((each) =>
      "reference" in each ? each : { reference: each, resourceVersion: "" },
    );
    const { validateOnly = false, allowMissing = false } = options;
    const request = { items, validateOnly, allowMissing, requestId: requestIdOf(options) };
    return this.connection.ask(v1.ObjectServiceService.delete, request, options);
  }

  /** Changes as they come: all objects as `added`, `synced`, then changes. See Watch. */
  watch(options: WatchOptions = {}): Watch {
    return new Watch(this.connection, options);
  }

  /** What happens to a connection, and why: `trace({ source: "shop/web-1", target: "203.0.113.9:443" })`. */
  async trace(question: Partly<typeof v1.Question>, options: CallOptions = {}): Promise<v1.Answer> {
    const request = { question: v1.Question.fromPartial(question) };
    const { answer } = await this.connection.ask(v1.TraceServiceService.trace, request, options);
    if (answer === undefined) {
      throw new ServerFault(status.INTERNAL, `${this.connection.address}: the answer holds no answer`);
    }
    return answer;
  }

  /** The same for many, answered in their order; a question that makes no sense is answered with its fault. */
  traceMany(
    questions: AsyncIterable<Partly<typeof v1.Question>> | Iterable<Partly<typeof v1.Question>>,
    options: CallOptions = {},
  ): AsyncGenerator<v1.TraceManyResponse, void, undefined> {
    return this.connection.exchange(v1.TraceServiceService.traceMany, numbered(questions), options);
  }

  /** Who may talk to whom on one port: first the targets, then one row for each source. */
  matrix(
    about: Partly<typeof v1.MatrixRequest>,
    options: CallOptions = {},
  ): AsyncGenerator<v1.MatrixResponse, void, undefined> {
    return this.connection.stream(v1.TraceServiceService.matrix, v1.MatrixRequest.fromPartial(about), options);
  }

  /** What would change if objects were applied and others deleted: objects, rules, connections, rows. */
  async diff(
    objects: Given | readonly Given[],
    { deletes = [], ...call }: CallOptions & { deletes?: v1.ObjectReference[] } = {},
  ): Promise<v1.DiffResponse> {
    const request = { objects: asObjects(many(objects)), deletes };
    return this.connection.ask(v1.TraceServiceService.diff, request, call);
  }

  /** Pages of northbound rows as they are to be. */
  rows({
    signal,
    deadlineS,
    ...about
  }: PageOptions & { table?: string; owner?: v1.ObjectReference } = {}): AsyncGenerator<
    v1.ListRowsResponse,
    void,
    undefined
  > {
    const request = v1.ListRowsRequest.fromPartial(about);
    return this.pages(v1.NorthboundServiceService.listRows, request, { signal, deadlineS });
  }

  /** Pages of the logical flows that follow from those rows. */
  flows({ signal, deadlineS, ...about }: PageOptions & { datapath?: string; stage?: string } = {}): AsyncGenerator<
    v1.ListFlowsResponse,
    void,
    undefined
  > {
    const request = v1.ListFlowsRequest.fromPartial(about);
    return this.pages(v1.NorthboundServiceService.listFlows, request, { signal, deadlineS });
  }

  /** Operations that are due and not in the northbound yet; at most `limit` of them. */
  pending({ limit = 0, ...call }: CallOptions & { limit?: number } = {}): Promise<v1.GetPendingResponse> {
    return this.connection.ask(v1.NorthboundServiceService.getPending, { limit }, call);
  }

  /** How far changes have come, who writes, and whether the northbound can be reached. */
  status({ revision, ...call }: CallOptions & { revision?: number } = {}): Promise<v1.GetStatusResponse> {
    const request = v1.GetStatusRequest.fromPartial({ revision });
    return this.connection.ask(v1.NorthboundServiceService.getStatus, request, call);
  }

  /** Pages of the conditions of objects. */
  conditions({
    signal,
    deadlineS,
    ...about
  }: PageOptions & { kind?: Kind; namespace?: string; name?: string } = {}): AsyncGenerator<
    v1.GetConditionsResponse,
    void,
    undefined
  > {
    const request = v1.GetConditionsRequest.fromPartial(about);
    return this.pages(v1.NorthboundServiceService.getConditions, request, { signal, deadlineS });
  }

  /** Waits until a revision has reached a stage; the answer says whether it did before the time was over. */
  waitRevision(
    revision: number,
    { stage = "programmed", timeoutS = 30, ...call }: WaitOptions = {},
  ): Promise<v1.WaitRevisionResponse> {
    const request = { revision, stage: STAGES[stage], timeout: durationOf(timeoutS) };
    const deadlineS = call.deadlineS ?? timeoutS + ANSWER_S;
    return this.connection.ask(v1.NorthboundServiceService.waitRevision, request, { ...call, deadlineS });
  }

  /** Pages of what nodes and pods are told of their place: annotations to write back, tunnel ports, MTU. */
  outputs({ signal, deadlineS, ...about }: PageOptions & { kind?: Kind; namespace?: string } = {}): AsyncGenerator<
    v1.ListOutputsResponse,
    void,
    undefined
  > {
    const request = v1.ListOutputsRequest.fromPartial(about);
    return this.pages(v1.OutputServiceService.listOutputs, request, { signal, deadlineS });
  }

  /** The same, `synced`, then every change; ends with the connection. After `resync` everything follows anew. */
  watchOutputs(
    about: Partly<typeof v1.WatchOutputsRequest> = {},
    options: CallOptions = {},
  ): AsyncGenerator<v1.WatchOutputsResponse, void, undefined> {
    const request = v1.WatchOutputsRequest.fromPartial(about);
    return this.connection.stream(v1.OutputServiceService.watchOutputs, request, options);
  }

  /** What happened lately, oldest first. */
  events(about: Partly<typeof v1.ListEventsRequest> = {}, options: CallOptions = {}): Promise<v1.ListEventsResponse> {
    return this.connection.ask(v1.EventServiceService.listEvents, v1.ListEventsRequest.fromPartial(about), options);
  }

  /** What a DNS name stands for, or stood for at a time, and its history. Throws NotFound. */
  async dnsName(name: string, { at, ...call }: CallOptions & { at?: Date } = {}): Promise<v1.DnsName> {
    const { name: found } = await this.connection.ask(v1.DnsServiceService.getName, { name, at }, call);
    return found ?? v1.DnsName.create({ name });
  }

  /** Pages of the names that egress firewalls speak of, with the state of their resolution. */
  dnsNames({ signal, deadlineS, ...about }: PageOptions = {}): AsyncGenerator<v1.ListNamesResponse, void, undefined> {
    const request = v1.ListNamesRequest.fromPartial(about);
    return this.pages(v1.DnsServiceService.listNames, request, { signal, deadlineS });
  }

  /** Hands over what a resolver heard. Not asked again after a failure: answers have an order. */
  pushAnswers(
    answers: readonly Partly<typeof v1.DnsAnswer>[],
    options: CallOptions = {},
  ): Promise<v1.PushAnswersResponse> {
    const request = { answers: answers.map((each) => v1.DnsAnswer.fromPartial(each)) };
    return this.connection.ask(v1.DnsServiceService.pushAnswers, request, options, false);
  }

  /** What nodes are to trust for IPsec. Ask at least once a month: a successor is trusted 90 days before it signs. */
  authority(options: CallOptions = {}): Promise<v1.GetAuthorityResponse> {
    return this.connection.ask(v1.CertificateServiceService.getAuthority, {}, options);
  }

  /** A certificate for a node's key. `signingRequest` is PKCS#10 in PEM. Throws Refused where it is not for the chassis
   * of that node. */
  signCertificate(
    node: string,
    signingRequest: string,
    options: CallOptions = {},
  ): Promise<v1.SignCertificateResponse> {
    const request = { node, signingRequest, signerName: "network.openshift.io/signer", usages: ["ipsec tunnel"] };
    return this.connection.ask(v1.CertificateServiceService.signCertificate, request, options);
  }

  /** How traffic is encrypted, and when certificates end. */
  certificateStatus(options: CallOptions = {}): Promise<v1.GetCertificateStatusResponse> {
    return this.connection.ask(v1.CertificateServiceService.getCertificateStatus, {}, options);
  }

  /** Makes the next authority. Not asked again after a failure: it may have been made. */
  rotateAuthority(options: CallOptions = {}): Promise<v1.RotateAuthorityResponse> {
    return this.connection.ask(v1.CertificateServiceService.rotateAuthority, {}, options, false);
  }

  /** Versions, limits and kinds of the server. */
  info(options: CallOptions = {}): Promise<v1.GetInfoResponse> {
    return this.connection.ask(v1.InfoServiceService.getInfo, {}, options);
  }

  /** The plug-in's features, and which of them are supported. */
  async features(options: CallOptions = {}): Promise<v1.Feature[]> {
    return (await this.connection.ask(v1.InfoServiceService.listFeatures, {}, options)).features;
  }

  private async *pages<Q extends { pageToken: string }, A extends { nextPageToken: string }>(
    method: UnaryMethod<Q, A>,
    request: Q,
    options: CallOptions,
  ): AsyncGenerator<A, void, undefined> {
    for (let pageToken = ""; ;) {
      const page = await this.connection.ask(method, { ...request, pageToken }, options);
      yield page;
      pageToken = page.nextPageToken;
      if (pageToken === "") {
        return;
      }
    }
  }
}

function many<T>(given: T | readonly T[]): readonly T[] {
  return Array.isArray(given) ? (given as readonly T[]) : [given as T];
}

/** One for every change, so that it can be asked again; none for what changes nothing. */
function requestIdOf({ requestId, validateOnly }: ChangeOptions): string {
  return requestId ?? (validateOnly ? "" : randomUUID());
}

async function* numbered(
  questions: AsyncIterable<Partly<typeof v1.Question>> | Iterable<Partly<typeof v1.Question>>,
): AsyncGenerator<v1.TraceManyRequest, void, undefined> {
  let number = 0;
  for await (const question of questions) {
    yield { id: String(number++), question: v1.Question.fromPartial(question) };
  }
}
