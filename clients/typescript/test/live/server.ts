/**
 * The real service, as a process that tests start, kill and start again. TEST_SERVE holds the command and its arguments
 * as a JSON list, OVNK_SERVER the address it listens on.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Client } from "../../src";

const PATIENCE_S = 30;

/** What the caller set for these tests. */
export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) {
    throw new Error(`${name} is not set: run these tests by tests/clients/test_typescript.py`);
  }
  return value;
}

export class Service {
  readonly address = setting("OVNK_SERVER");
  private readonly command = JSON.parse(setting("TEST_SERVE")) as string[];
  private running: ChildProcess | undefined;

  /** Returns when the service answers. */
  async start(): Promise<void> {
    const [program = "", ...words] = this.command;
    const running = spawn(program, words, { stdio: ["ignore", "ignore", "inherit"] });
    this.running = running;
    const ended = once(running, "exit").then(([code]) => {
      throw new Error(`the service ended with status ${String(code)}`);
    });
    ended.catch(() => undefined); // it is only of interest while it starts
    const client = new Client(this.address, { deadlineS: PATIENCE_S });
    try {
      await Promise.race([client.info(), ended]);
    } finally {
      client.close();
    }
  }

  /** Without a chance to say goodbye. */
  async kill(): Promise<void> {
    if (this.running !== undefined && this.running.exitCode === null) {
      const exited = once(this.running, "exit");
      this.running.kill("SIGKILL");
      await exited;
    }
    this.running = undefined;
  }
}
