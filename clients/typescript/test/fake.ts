/** A server in this process whose answers a test writes, for what a real one does only by accident. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type StatusObject,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { v1 } from "../src";
import { Status } from "../src/gen/google/rpc/status";

const SERVICES: ServiceDefinition[] = [v1.ObjectServiceService, v1.TraceServiceService, v1.DnsServiceService];

export class Fake {
  private readonly folder = mkdtempSync(join(tmpdir(), "ovnk-"));
  readonly address = `unix:${join(this.folder, "s")}`;
  private server: Server | undefined;

  /** Serve methods by name; those of a service that has none of them are not known to the server. */
  async start(methods: UntypedServiceImplementation): Promise<void> {
    this.server = new Server();
    for (const service of SERVICES.filter((each) => Object.keys(each).some((name) => name in methods))) {
      this.server.addService(service, methods);
    }
    const server = this.server;
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(this.address, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  stop(): void {
    this.server?.forceShutdown();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A status with details, as our server ends calls. */
export function failure(code: number, message: string, details: Status["details"] = []): Partial<StatusObject> {
  const metadata = new Metadata();
  metadata.set(
    "grpc-status-details-bin",
    Buffer.from(Status.encode(Status.create({ code, message, details })).finish()),
  );
  return { code, details: message, metadata };
}

/** One detail, under its type's name. */
export function detail<T>(
  name: string,
  type: { encode(message: T): { finish(): Uint8Array } },
  message: T,
): Status["details"][number] {
  return { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: Buffer.from(type.encode(message).finish()) };
}
