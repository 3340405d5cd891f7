import type { Command } from 'commander';
import { Output } from './output';
import { RestClient } from './rest-client';
import { SettingsStore } from './settings';

/** What the command line needs of its process; tests give their own. */
export interface CliProcess {
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  on(signal: 'SIGINT', listener: () => void): unknown;
  removeListener(signal: 'SIGINT', listener: () => void): unknown;
}

/** What a command works with. */
export interface CommandContext {
  readonly process: CliProcess;
  readonly settings: SettingsStore;
  readonly output: Output;
  /** Logged in; throws a usage failure otherwise. */
  readonly api: RestClient;
}

/** An action: gives the exit code, 0 when it returns nothing. */
export type Action<O> = (context: CommandContext, options: O, ...words: string[]) => Promise<number | undefined | void>;

/** Registers commands and remembers what they asked for. */
export class CommandHost {
  exitCode = 0;
  json = false;

  constructor(readonly process: CliProcess) {}

  /** Adds `--json` and runs the action with a context; `words` are the command's arguments in order. */
  run<O>(command: Command, action: Action<O>): void {
    command.option('--json', 'one JSON object on standard output, nothing else');
    command.action(async (...given: unknown[]) => {
      const options = given.at(-2) as O & { json?: boolean };
      const words = given.slice(0, -2) as string[];
      this.json = options.json === true;
      const settings = new SettingsStore(this.process.env);
      let client: RestClient | undefined;
      const context: CommandContext = {
        process: this.process,
        settings,
        output: new Output(this.json, this.process.stdout, this.process.stderr),
        get api() {
          client ??= new RestClient(settings.load());
          return client;
        },
      };
      try {
        this.exitCode = (await action(context, options, ...words)) ?? 0;
        if (client?.trustIsOld === true) await followTrust(client, settings);
      } finally {
        await client?.close();
      }
    });
  }
}

/**
 * While two CAs are trusted the server is still verified with the one that was pinned at login: the moment to remember what it says is to be
 * trusted from now on.
 */
async function followTrust(client: RestClient, settings: SettingsStore): Promise<void> {
  try {
    const { caPem } = await client.get<{ caPem: string }>('/certificates/trust-bundle');
    settings.save({ ...settings.load(), caPem });
  } catch {
    // The command itself is done; logged out meanwhile, or an older server: the next command tries again.
  }
}
