/**
 * Every error that a call can end with, as one tree, and how a failed call becomes one of them.
 *
 *     ClientError          has code, reason, details, retryAfterS, violations
 *     ├─ Unavailable       no server, or it cannot do it now
 *     ├─ DeadlineExceeded  not in time
 *     ├─ Denied            not allowed, or nobody knows who is asking
 *     ├─ NotFound, Exists  no such object; one too many
 *     ├─ Conflict          somebody else was faster, or the precondition does not hold
 *     ├─ Refused           what was asked is wrong; its violations say where
 *     ├─ Expired           what was known is no base to go on from: list or watch anew
 *     ├─ QuotaExceeded     larger or more than the server takes
 *     ├─ Unimplemented     the server is older than this client
 *     └─ ServerFault       a mistake of the server's; its log says more
 *
 * A call that its AbortSignal ended throws the signal's reason, which is none of these.
 */

import { type ServiceError, status } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo } from "./gen/google/rpc/error_details";
import { Status } from "./gen/google/rpc/status";

/** One thing wrong with one field of a request. */
export interface Violation {
  /** The field's path: "items[3].object.egress_firewall.spec.egress[41].to.cidr_selector". */
  field: string;
  /** What is wrong. */
  description: string;
  /** Which item of the request it is about, from 0. */
  index?: number;
}

/** What is known of a failure beside its message. */
export interface Circumstances {
  /** One word for programs. */
  reason?: string;
  /** What comes with the reason. */
  details?: Record<string, string>;
  /** When the server wants to be asked again, in seconds. */
  retryAfterS?: number;
  violations?: readonly Violation[];
  cause?: unknown;
}

/** Root of the tree. */
export class ClientError extends Error {
  readonly reason: string;
  readonly details: Record<string, string>;
  readonly retryAfterS: number | undefined;
  readonly violations: readonly Violation[];

  constructor(
    /** The gRPC status. */
    readonly code: status,
    message: string,
    known: Circumstances = {},
  ) {
    super(message, known.cause === undefined ? {} : { cause: known.cause });
    this.name = new.target.name;
    this.reason = known.reason ?? "";
    this.details = known.details ?? {};
    this.retryAfterS = known.retryAfterS;
    this.violations = known.violations ?? [];
  }

  /** Whether the same question may be answered later. */
  get isPassing(): boolean {
    return this.retryAfterS !== undefined;
  }
}

/** No server, or it cannot do it now. A change may have been made all the same: the same requestId tells. */
export class Unavailable extends ClientError {
  override get isPassing(): boolean {
    return true;
  }
}

/** Not in time. A change may have been made all the same: the same requestId tells. */
export class DeadlineExceeded extends ClientError {}

/** Not allowed, or nobody knows who is asking. */
export class Denied extends ClientError {}

/** No such object. */
export class NotFound extends ClientError {}

/** An object that was to be created is there already. */
export class Exists extends ClientError {}

/** Somebody else was faster, or the precondition does not hold: read again, and change what is there now. */
export class Conflict extends ClientError {}

/** What was asked is wrong; `violations` say where. */
export class Refused extends ClientError {}

/**
 * What was known is no base to go on from: list or watch anew. A revision or page that is not kept any more, or has never
 * been, or what the caller may do has changed meanwhile.
 */
export class Expired extends ClientError {}

/** Larger or more than the server takes. */
export class QuotaExceeded extends ClientError {}

/** The server is older than this client, or another program. */
export class Unimplemented extends ClientError {}

/** A mistake of the server's; its log says more. */
export class ServerFault extends ClientError {}

const CLASSES: Partial<Record<status, typeof ClientError>> = {
  [status.UNAVAILABLE]: Unavailable,
  [status.CANCELLED]: Unavailable,
  [status.DEADLINE_EXCEEDED]: DeadlineExceeded,
  [status.PERMISSION_DENIED]: Denied,
  [status.UNAUTHENTICATED]: Denied,
  [status.NOT_FOUND]: NotFound,
  [status.ALREADY_EXISTS]: Exists,
  [status.ABORTED]: Conflict,
  [status.INVALID_ARGUMENT]: Refused,
  [status.FAILED_PRECONDITION]: Refused,
  [status.OUT_OF_RANGE]: Expired,
  [status.RESOURCE_EXHAUSTED]: QuotaExceeded,
  [status.UNIMPLEMENTED]: Unimplemented,
};

/** Where the reason says more than the code does. */
const CLASSES_BY_REASON: Record<string, typeof ClientError> = { POLICY_CHANGED: Expired };

const DETAILS_KEY = "grpc-status-details-bin";
const ITEM = /^(?:items|objects)\[(\d+)\]/;

/** A failed call -> its error; anything else is passed through. `address` is named where nobody answered. */
export function errorOf(failure: unknown, address: string): unknown {
  if (!isServiceError(failure)) {
    return failure;
  }
  const Made = CLASSES[failure.code] ?? ServerFault;
  const rich = richStatus(failure);
  if (rich === undefined) {
    return new Made(failure.code, `${address}: ${failure.details || status[failure.code]}`, { cause: failure });
  }
  const MadeByReason = CLASSES_BY_REASON[rich.known.reason ?? ""] ?? Made;
  return new MadeByReason(failure.code, rich.message || failure.details, { ...rich.known, cause: failure });
}

function isServiceError(failure: unknown): failure is ServiceError {
  return failure instanceof Error && "code" in failure && "metadata" in failure && "details" in failure;
}

function richStatus(failure: ServiceError): { message: string; known: Circumstances } | undefined {
  const [encoded] = failure.metadata.get(DETAILS_KEY);
  try {
    const found = Buffer.isBuffer(encoded) ? Status.decode(encoded) : undefined;
    return found && { message: found.message, known: circumstances(found) };
  } catch {
    return undefined; // details that cannot be read must not hide the code and the message
  }
}

function circumstances(rich: Status): Circumstances {
  const known: Circumstances = {};
  const violations: Violation[] = [];
  for (const { typeUrl, value } of rich.details) {
    switch (typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) {
      case "google.rpc.ErrorInfo": {
        const info = ErrorInfo.decode(value);
        known.reason = info.reason;
        known.details = info.metadata;
        break;
      }
      case "google.rpc.RetryInfo": {
        const delay = RetryInfo.decode(value).retryDelay;
        known.retryAfterS = (delay?.seconds ?? 0) + (delay?.nanos ?? 0) / 1e9;
        break;
      }
      case "google.rpc.BadRequest":
        violations.push(
          ...BadRequest.decode(value).fieldViolations.map((each) => violation(each.field, each.description)),
        );
        break;
      case "google.rpc.QuotaFailure":
        violations.push(
          ...QuotaFailure.decode(value).violations.map((each) => violation(each.subject, each.description)),
        );
        break;
      case "google.rpc.PreconditionFailure":
        violations.push(
          ...PreconditionFailure.decode(value).violations.map((each) => violation(each.subject, each.description)),
        );
        break;
    }
  }
  return { ...known, violations };
}

/** A violation by the path of its field in the request. */
export function violation(field: string, description: string): Violation {
  const item = ITEM.exec(field)?.[1];
  return item === undefined ? { field, description } : { field, description, index: Number(item) };
}
