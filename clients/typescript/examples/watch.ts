/**
 * Prints objects as they are, and then every change.
 *
 *     node dist/examples/watch.js unix:/run/ovnk/ovnk.sock EgressFirewall NetworkPolicy
 *
 * Without kinds it prints all of them; with `--once` it ends when it has printed what there is. Ctrl-C ends it.
 */

import { Client, ClientError, type Kind, referenceOf } from "../src";

async function main(address: string, kinds: Kind[], isOnce: boolean): Promise<void> {
  const client = new Client(address);
  const leaving = new AbortController();
  process.once("SIGINT", () => leaving.abort());
  try {
    for await (const event of client.watch({ kinds, signal: leaving.signal })) {
      if ("object" in event) {
        const { namespace = "", name = "" } = referenceOf(event.object) ?? {};
        const shown = namespace ? `${namespace}/${name}` : name;
        console.log(`${event.type.padEnd(9)} ${event.kind.padEnd(16)} ${shown} r${event.revision}`);
      } else if (event.type === "synced") {
        console.log(`synced at revision ${event.revision}`);
        if (isOnce) {
          return;
        }
      } else if (event.type === "resync") {
        console.log("starting over: what was printed before may be out of date");
      }
    }
  } catch (error) {
    if (!leaving.signal.aborted) {
      throw error;
    }
  } finally {
    client.close();
  }
}

const [address = "unix:/run/ovnk/ovnk.sock", ...words] = process.argv.slice(2);
const kinds = words.filter((word) => !word.startsWith("-")) as Kind[];
main(address, kinds, words.includes("--once")).catch((error: unknown) => {
  console.error(error instanceof ClientError ? `${error.name}: ${error.message}` : error);
  process.exitCode = 1;
});
