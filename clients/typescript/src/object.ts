/**
 * Objects as callers hold them and as requests hold them.
 *
 * A kind is called by the name of its message: "Pod", "NetworkOperator". An object goes in as `{ pod: {...} }`, with as
 * little filled in as its author wants to say. What the messages have no place for is refused, not dropped: a policy
 * that says less than its author thinks protects less.
 */

import { status } from "@grpc/grpc-js";
import { v1 } from "./api";
import { Refused, type Violation, violation } from "./errors";
import { KINDS } from "./gen/kinds";

/** The name of a kind's message. */
export type Kind = keyof typeof KINDS;

/** The message of a kind: `Message<"Pod">` is `v1.Pod`. */
export type Message<K extends Kind> = NonNullable<v1.Object[(typeof KINDS)[K]["field"]]>;

/** An object of any kind with as little filled in as its author wants to say. */
export type Given = Parameters<typeof v1.Object.fromPartial>[0];

const KINDS_BY_FIELD = new Map<string, Kind>(Object.entries(KINDS).map(([kind, { field }]) => [field, kind as Kind]));

/** The message inside an object; undefined where it is of another kind. */
export function messageOf<K extends Kind>(kind: K, object: v1.Object): Message<K> | undefined {
  return object[KINDS[kind].field] as Message<K> | undefined;
}

/** The kind of an object; undefined for one that is newer than this client. */
export function kindOf(object: v1.Object): Kind | undefined {
  for (const [field, value] of Object.entries(object)) {
    const kind = KINDS_BY_FIELD.get(field);
    if (kind !== undefined && value !== undefined) {
      return kind;
    }
  }
  return undefined;
}

/** Names an object by itself; undefined for one whose kind is newer than this client. */
export function referenceOf(object: v1.Object): v1.ObjectReference | undefined {
  const kind = kindOf(object);
  const metadata = kind && messageOf(kind, object)?.metadata;
  return metadata && { kind, namespace: metadata.namespace, name: metadata.name };
}

/** Names one object; of a kind with namespaces and without one given, the one in "default". */
export function reference(kind: Kind, name: string, namespace = ""): v1.ObjectReference {
  return { kind, name, namespace: KINDS[kind].isNamespaced ? namespace || "default" : "" };
}

/** Objects for a request. Throws Refused with a violation for every field that no message has. */
export function asObjects(given: readonly Given[]): v1.Object[] {
  const violations: Violation[] = [];
  const objects = given.map((each, index) => {
    const object = v1.Object.fromPartial(each);
    keep(each, object, `objects[${index}]`, violations);
    return object;
  });
  if (violations.length > 0) {
    const shown = violations.slice(0, 3).map((each) => `${each.field}: ${each.description}`);
    const more = violations.length > 3 ? ` and ${violations.length - 3} more` : "";
    throw new Refused(status.INVALID_ARGUMENT, shown.join("; ") + more, { violations });
  }
  return objects;
}

/** Carry over what a newer server wrote into `given`, and note what was lost on the way to `made`. */
function keep(given: object, made: object, path: string, violations: Violation[]): void {
  const kept = made as Record<string, unknown>;
  for (const [key, value] of Object.entries(given)) {
    const place = Array.isArray(given) ? `${path}[${key}]` : `${path}.${key}`;
    if (value === undefined) {
      continue;
    }
    if (key === "_unknownFields") {
      kept[key] = value;
    } else if (!(key in made)) {
      violations.push(violation(place, "there is no such field; remove it, or correct its name"));
    } else if (isNested(value) && isNested(kept[key])) {
      keep(value, kept[key], place, violations);
    }
  }
}

function isNested(value: unknown): value is object {
  return typeof value === "object" && value !== null && !(value instanceof Date) && !(value instanceof Uint8Array);
}
