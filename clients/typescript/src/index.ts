/** Everything public: the client, its errors, and the API's messages as `v1`. */

export { v1 } from "./api";
export {
  type ApplyOptions,
  type ChangeOptions,
  Client,
  type ListOptions,
  type PageOptions,
  type Stage,
  type WaitOptions,
} from "./client";
export type { CallOptions, ConnectionOptions, Tls } from "./connection";
export {
  ClientError,
  Conflict,
  DeadlineExceeded,
  Denied,
  Exists,
  Expired,
  NotFound,
  QuotaExceeded,
  Refused,
  ServerFault,
  Unavailable,
  Unimplemented,
  type Violation,
} from "./errors";
export { type Given, type Kind, type Message, kindOf, messageOf, reference, referenceOf } from "./object";
export { Watch, type WatchEvent, type WatchOptions } from "./watch";
