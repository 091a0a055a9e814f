/**
 * One connection: where the server is, a deadline for every call, and what is asked again after a failure.
 *
 * A read may be repeated, and so may a change that carries a request id, because the server answers the same id with
 * the same answer. Both are, while nobody answers or the server says when to ask again, until the deadline is over.
 * Nothing else is repeated.
 */

import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { type Duplex, Readable, pipeline } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  type ChannelOptions,
  Client as Channel,
  Metadata,
  type ServiceError,
  credentials,
  status,
} from "@grpc/grpc-js";
import { ClientError, DeadlineExceeded, errorOf } from "./errors";

/** PEM files. `name`: what the server's certificate calls it, where that is not the host of the address. */
export interface Tls {
  ca: string;
  cert: string;
  key: string;
  name?: string;
}

export interface ConnectionOptions {
  tls?: Tls;
  /** Bounds every call that answers once, with all its attempts; 30 s. */
  deadlineS?: number;
}

/** What every call takes. */
export interface CallOptions {
  /** Ends the call; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Instead of the connection's. */
  deadlineS?: number;
}

/** A method of a generated service definition. */
interface Method<Q, A> {
  path: string;
  requestSerialize(request: Q): Buffer;
  responseDeserialize(answer: Buffer): A;
}
export interface UnaryMethod<Q, A> extends Method<Q, A> {
  requestStream: false;
  responseStream: false;
}
export interface StreamMethod<Q, A> extends Method<Q, A> {
  requestStream: false;
  responseStream: true;
}
export interface DuplexMethod<Q, A> extends Method<Q, A> {
  requestStream: true;
  responseStream: true;
}

interface Cancellable {
  cancel(): void;
}

const OPTIONS: ChannelOptions = {
  // More often than every ten seconds the server would take for an attack.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 20_000,
  // A page is bounded in objects, not in bytes, and the server is one we chose.
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
  // Otherwise it would be up to two minutes until a server that was restarted is found again.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 3_000,
};
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 3_000;

/** Pauses between attempts: each up to twice as long as the one before, at random so that clients spread out. */
export class Backoff {
  private nextMs = FIRST_PAUSE_MS;

  /** The next pause in milliseconds, at least as long as the server wants it to be. */
  pauseMs(wantedS = 0): number {
    const pauseMs = this.nextMs * (0.5 + Math.random() / 2);
    this.nextMs = Math.min(2 * this.nextMs, LONGEST_PAUSE_MS);
    return Math.max(pauseMs, 1_000 * wantedS);
  }
}

/** Waits; throws the signal's reason when that comes first. */
export async function pause(durationMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(durationMs, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/**
 * `address` is `unix:PATH` or `HOST:PORT`. A socket's directory decides who may connect; TCP wants certificates of both
 * sides, and without them only a loopback address is spoken to, because whoever listens elsewhere could be anybody.
 * Throws for what is no address and for a file that cannot be read; the server is first spoken to by the first call.
 */
export class Connection {
  readonly deadlineS: number;
  private readonly channel: Channel;
  private readonly running = new Set<Cancellable>();
  private isClosed = false;

  constructor(
    readonly address: string,
    options: ConnectionOptions = {},
  ) {
    this.deadlineS = options.deadlineS ?? 30;
    this.channel = openChannel(address, options.tls);
  }

  /** Ends every call, which then throws an error that is no ClientError, and the connection. */
  close(): void {
    this.isClosed = true;
    this.running.forEach((call) => call.cancel());
    this.channel.close();
  }

  /** Throws when nobody waits for the answer any more. */
  private check(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (this.isClosed) {
      throw new Error(`${this.address}: the client is closed`);
    }
  }

  /** Lets the signal and `close` cancel a call until what is returned is called. */
  private follow(call: Cancellable, signal: AbortSignal | undefined): () => void {
    const cancel = (): void => call.cancel();
    signal?.addEventListener("abort", cancel);
    this.running.add(call);
    return () => {
      signal?.removeEventListener("abort", cancel);
      this.running.delete(call);
    };
  }

  /** One answer. `isRepeatable`: asking again can do no harm. Throws a ClientError. */
  async ask<Q, A>(method: UnaryMethod<Q, A>, request: Q, options: CallOptions, isRepeatable = true): Promise<A> {
    const boundS = options.deadlineS ?? this.deadlineS;
    const endMs = performance.now() + 1_000 * boundS;
    const backoff = new Backoff();
    for (;;) {
      try {
        return await this.attempt(method, request, endMs, options.signal);
      } catch (failure) {
        this.check(options.signal);
        const error = errorOf(failure, this.address);
        if (error instanceof DeadlineExceeded) {
          throw new DeadlineExceeded(error.code, `${this.address}: no answer within ${boundS} s`, { cause: failure });
        }
        const isPassing = error instanceof ClientError && error.isPassing;
        const pauseMs = isPassing ? backoff.pauseMs(error.retryAfterS) : Infinity;
        if (!isRepeatable || performance.now() + pauseMs >= endMs) {
          throw error;
        }
        await pause(pauseMs, options.signal);
      }
    }
  }

  private attempt<Q, A>(
    method: UnaryMethod<Q, A>,
    request: Q,
    endMs: number,
    signal: AbortSignal | undefined,
  ): Promise<A> {
    this.check(signal);
    return new Promise<A>((resolve, reject) => {
      const call = this.channel.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        { deadline: Date.now() + Math.max(1, endMs - performance.now()) },
        (error: ServiceError | null, answer?: A) => {
          leave();
          if (error) {
            reject(error);
          } else {
            resolve(answer as A); // without an error there is one
          }
        },
      );
      const leave = this.follow(call, signal);
    });
  }

  /** Every answer of a stream. Throws a ClientError. */
  stream<Q, A>(method: StreamMethod<Q, A>, request: Q, options: CallOptions): AsyncGenerator<A, void, undefined> {
    return this.answers(options.signal, () =>
      this.channel.makeServerStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        deadline(options),
      ),
    );
  }

  /** The same for a stream of requests, which are taken from their source no faster than the server reads them. */
  exchange<Q, A>(
    method: DuplexMethod<Q, A>,
    requests: AsyncIterable<Q> | Iterable<Q>,
    options: CallOptions,
  ): AsyncGenerator<A, void, undefined> {
    return this.answers(options.signal, () => {
      const call = this.channel.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        deadline(options),
      );
      // What goes wrong here ends the call, where it is thrown. The call is a Duplex, which its type does not say.
      pipeline(Readable.from(requests), call as unknown as Duplex, () => undefined);
      return call;
    });
  }

  private async *answers<A>(
    signal: AbortSignal | undefined,
    begin: () => ClientReadableStream<A> | ClientDuplexStream<never, A>,
  ): AsyncGenerator<A, void, undefined> {
    this.check(signal);
    const call = begin();
    // Leaving the loop cancels the call, which reports that as an error when nobody listens to it any more.
    call.on("error", () => undefined);
    const leave = this.follow(call, signal);
    try {
      for await (const answer of call) {
        yield answer as A;
      }
    } catch (failure) {
      this.check(signal);
      throw errorOf(failure, this.address);
    } finally {
      leave();
      call.cancel();
    }
  }
}

function deadline(options: CallOptions): { deadline?: number } {
  return options.deadlineS === undefined ? {} : { deadline: Date.now() + 1_000 * options.deadlineS };
}

function openChannel(address: string, tls: Tls | undefined): Channel {
  if (address.startsWith("unix:")) {
    if (tls !== undefined) {
      throw new TypeError(`${address}: a unix socket takes no certificates`);
    }
    return new Channel(address, credentials.createInsecure(), OPTIONS);
  }
  const target = address.replace(/^tcp:/, "");
  const [, host, port] = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(target) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new TypeError(`${address}: write unix:PATH or HOST:PORT, an IPv6 address in brackets`);
  }
  if (tls === undefined) {
    if (!isLoopback(host)) {
      throw new TypeError(`${address}: TCP needs certificates: an authority, a certificate and its key`);
    }
    return new Channel(target, credentials.createInsecure(), OPTIONS);
  }
  const secure = credentials.createSsl(readFileSync(tls.ca), readFileSync(tls.key), readFileSync(tls.cert));
  const named = tls.name === undefined ? {} : { "grpc.ssl_target_name_override": tls.name };
  return new Channel(target, secure, { ...OPTIONS, ...named });
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."));
}

export { status };
