/** Which server the command line talks to: `~/.config/tidemark/cli.json` (0600), written by `tidemark login`, or the environment. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { durableWrite } from '../../common/tls/durable-write';
import { usage } from './cli-failure';

const schema = z.strictObject({
  /** e.g. https://backup.example:8443 */
  server: z.url(),
  /** PEM of the server's CA. */
  caPem: z.string(),
  token: z.string(),
});

export type CliSettings = z.infer<typeof schema>;

export class SettingsStore {
  constructor(private readonly environment: NodeJS.ProcessEnv) {}

  get file(): string {
    const named = this.environment['TIDEMARK_CLI_CONFIG'];
    if (named !== undefined) return named;
    const base = this.environment['XDG_CONFIG_HOME'] ?? path.join(this.environment['HOME'] ?? os.homedir(), '.config');
    return path.join(base, 'tidemark', 'cli.json');
  }

  /** Throws a usage failure that says how to log in. */
  load(): CliSettings {
    let text: string;
    try {
      text = fs.readFileSync(this.file, 'utf8');
    } catch {
      throw usage(
        `not logged in (${this.file} is missing); run: tidemark login --server https://HOST:8443 --ca FILE --user admin --password-file FILE`,
      );
    }
    const parsed = schema.safeParse(parseJson(text));
    if (!parsed.success) throw usage(`${this.file} is damaged; log in again`);
    return parsed.data;
  }

  save(settings: CliSettings): void {
    durableWrite(this.file, `${JSON.stringify(settings, null, 2)}\n`, 0o600);
  }

  remove(): void {
    fs.rmSync(this.file, { force: true });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
