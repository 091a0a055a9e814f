/**
 * A watch that outlives its connection: no change is missed, none comes twice, none out of order.
 *
 * After a lost connection it resumes behind the last revision that was seen as a whole; of one seen in part, what was
 * seen already is left out. What cannot be resumed (the revision is not kept any more, the watch was too slow, or the
 * connection was lost before the first `synced`) starts over: `resync`, which means forget what you know, then every
 * object as `added` and `synced` again.
 */

import { status } from "@grpc/grpc-js";
import { v1 } from "./api";
import { Backoff, type CallOptions, type Connection, pause } from "./connection";
import { ClientError, Expired, Unavailable } from "./errors";
import { type Kind, kindOf, referenceOf } from "./object";

/** One event. */
export type WatchEvent = {
  /** The revision of the change; everything before it was told. 0 with `resync`. */
  revision: number;
  /** Another watch that resumes from here loses nothing; 0: from nowhere yet. */
  resumeRevision: number;
} & (
  | {
      type: "added" | "modified" | "deleted";
      kind: Kind;
      /** As it is now; of `deleted` as it was last. */
      object: v1.Object;
    }
  | { type: "synced" | "bookmark" | "resync" }
);

/** What a watch is about; each part left out: everything that the caller may read. */
export interface WatchOptions extends Pick<CallOptions, "signal"> {
  kinds?: readonly Kind[];
  namespace?: string;
  /** As kubectl writes it: "app=web,tier in (a, b)". */
  labelSelector?: string;
  /** Only changes after this revision. */
  resumeRevision?: number;
  /** False: only changes from now on. */
  sendInitial?: boolean;
  /** How often the server says that nothing happened, at least 1; 10 s. */
  bookmarkIntervalS?: number;
}

/**
 * Iterate over it once; it ends by an error, by its signal, or when the loop is left. The first attempt to reach the
 * server is as patient as the connection, every later one waits for as long as it takes. Throws a ClientError that
 * waiting cannot mend: Denied, Refused, Unimplemented.
 */
export class Watch implements AsyncIterable<WatchEvent> {
  private position: number;
  /** The revision that was seen in part, and the names that changed in it. */
  private partial = 0;
  private readonly seen = new Set<string>();
  private request: v1.WatchRequest;

  constructor(
    private readonly connection: Connection,
    private readonly options: WatchOptions = {},
  ) {
    this.position = options.resumeRevision ?? 0;
    const interval = options.bookmarkIntervalS;
    this.request = v1.WatchRequest.fromPartial({
      kinds: [...(options.kinds ?? [])],
      namespace: options.namespace,
      labelSelector: options.labelSelector,
      resumeRevision: options.resumeRevision,
      sendInitial: options.sendInitial,
      bookmarkInterval: interval === undefined ? undefined : durationOf(interval),
    });
  }

  /** The last revision that was seen as a whole; 0: none yet. */
  get resumeRevision(): number {
    return this.position;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchEvent, void, undefined> {
    const givesUpMs = performance.now() + 1_000 * this.connection.deadlineS;
    let backoff = new Backoff();
    let hasBegun = false;
    for (;;) {
      const begunAt = this.position;
      const lost = yield* this.attempt(() => {
        hasBegun = true;
      });
      const isExpired = lost instanceof Expired;
      if (!isExpired && (!lost.isPassing || (!hasBegun && performance.now() >= givesUpMs))) {
        throw lost;
      }
      // A list is no progress: one that has to start over again and again must not come back at once.
      if (begunAt > 0 && this.position > begunAt) {
        backoff = new Backoff();
      }
      await pause(backoff.pauseMs(lost.retryAfterS), this.options.signal);
      if (isExpired || (hasBegun && this.position === 0)) {
        this.startOver();
        hasBegun = true;
        yield { type: "resync", revision: 0, resumeRevision: 0 };
      }
    }
  }

  /** One connection's worth of events; returns how it was lost. */
  private async *attempt(heard: () => void): AsyncGenerator<WatchEvent, ClientError, undefined> {
    if (this.position > 0) {
      this.request = { ...this.request, resumeRevision: this.position, sendInitial: undefined };
    }
    const { signal } = this.options;
    try {
      for await (const response of this.connection.stream(v1.ObjectServiceService.watch, this.request, { signal })) {
        if (response.resyncRequired !== undefined) {
          return new Expired(status.OUT_OF_RANGE, response.resyncRequired.reason || "the watch was too slow");
        }
        heard();
        const event = this.eventOf(response);
        if (event !== undefined) {
          yield event;
        }
      }
    } catch (error) {
      if (error instanceof ClientError) {
        return error;
      }
      throw error;
    }
    return new Unavailable(status.UNAVAILABLE, `${this.connection.address}: the server ended the watch`);
  }

  private startOver(): void {
    this.position = 0;
    this.partial = 0;
    this.seen.clear();
    // Whatever was asked for at first: only the whole list makes up for what was missed.
    this.request = { ...this.request, resumeRevision: undefined, sendInitial: true };
  }

  /** Undefined for what was told before, and for kinds and events that are newer than this client. */
  private eventOf(response: v1.WatchResponse): WatchEvent | undefined {
    const { revision, resumeRevision } = response;
    const change = changeOf(response);
    const isNews = change !== undefined && this.isNews(change.object, revision, resumeRevision);
    this.position = Math.max(this.position, resumeRevision);
    if (resumeRevision >= this.partial) {
      this.seen.clear();
    }
    if (change !== undefined) {
      const kind = kindOf(change.object);
      return isNews && kind ? { ...change, kind, revision, resumeRevision } : undefined;
    }
    const type = response.synced ? "synced" : response.bookmark ? "bookmark" : undefined;
    return type && { type, revision, resumeRevision };
  }

  private isNews(object: v1.Object, revision: number, resumeRevision: number): boolean {
    if (resumeRevision === 0) {
      return true; // part of the list, which starts over when it is interrupted
    }
    if (revision !== this.partial) {
      this.partial = revision;
      this.seen.clear();
    }
    const { kind, namespace, name } = referenceOf(object) ?? {};
    const key = `${kind} ${namespace} ${name}`;
    const isNews = !this.seen.has(key);
    this.seen.add(key);
    return isNews;
  }
}

function changeOf(
  response: v1.WatchResponse,
): { type: "added" | "modified" | "deleted"; object: v1.Object } | undefined {
  for (const type of ["added", "modified", "deleted"] as const) {
    const object = response[type]?.object;
    if (object !== undefined) {
      return { type, object };
    }
  }
  return undefined;
}

/** Seconds as the wire has them. */
export function durationOf(durationS: number): { seconds: number; nanos: number } {
  const seconds = Math.floor(durationS);
  return { seconds, nanos: Math.round((durationS - seconds) * 1e9) };
}
