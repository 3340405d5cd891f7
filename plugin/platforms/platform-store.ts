import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { Secret } from '../../common/log/redact';
import { SecretBox } from '../../common/secrets/secret-box';
import { durableWrite } from '../../common/tls/durable-write';
import { PlatformErrors } from './platform-errors';

/** A connected engine as it is kept. */
export interface StoredPlatform {
  readonly platformId: string;
  readonly name: string;
  /** Canonical. */
  readonly url: string;
  readonly username: string;
  readonly password: Secret;
  readonly webCaPem: string;
  readonly internalCaPem: string;
  readonly engineVersion: string;
  /** Tells engines apart whatever their address. */
  readonly instanceId?: string | undefined;
  /** Why it does not answer, as it was told last; absent while it answers. Over a restart too, so that its return is told. */
  readonly lostCode?: string | undefined;
}

const fileFormat = z.object({
  version: z.literal(1),
  platforms: z.array(
    z.object({
      platformId: z.string().min(1),
      name: z.string(),
      url: z.string(),
      username: z.string(),
      sealedPassword: z.string(),
      webCaPem: z.string(),
      internalCaPem: z.string(),
      engineVersion: z.string(),
      instanceId: z.string().optional(),
      lostCode: z.string().optional(),
    }),
  ),
});

/**
 * The list of connected engines: one JSON file `platforms.json`, replaced whole (temporary file, fsync, rename); passwords sealed with
 * `platforms.key` beside it. Both have mode 0600.
 */
export class PlatformStore {
  readonly #file: string;
  readonly #box: SecretBox;

  constructor(dataFolder: string) {
    this.#file = path.join(dataFolder, 'platforms.json');
    this.#box = SecretBox.open(path.join(dataFolder, 'platforms.key'));
  }

  /** Throws PLATFORM_STORE_DAMAGED, SECRETS_DAMAGED. */
  load(): readonly StoredPlatform[] {
    let text: string;
    try {
      text = fs.readFileSync(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw PlatformErrors.PLATFORM_STORE_DAMAGED({ file: this.#file, problem: 'it cannot be read' }, { cause: error });
    }
    let content: z.infer<typeof fileFormat>;
    try {
      content = fileFormat.parse(JSON.parse(text));
    } catch (error) {
      throw PlatformErrors.PLATFORM_STORE_DAMAGED({ file: this.#file, problem: 'its content is damaged' }, { cause: error });
    }
    return content.platforms.map(({ sealedPassword, ...rest }) => ({ ...rest, password: this.#box.open(sealedPassword, rest.platformId) }));
  }

  save(platforms: readonly StoredPlatform[]): void {
    const content: z.infer<typeof fileFormat> = {
      version: 1,
      platforms: platforms.map(({ password, instanceId, lostCode, ...rest }) => ({
        ...rest,
        ...(instanceId === undefined ? {} : { instanceId }),
        ...(lostCode === undefined ? {} : { lostCode }),
        sealedPassword: this.#box.seal(password, rest.platformId),
      })),
    };
    durableWrite(this.#file, `${JSON.stringify(content, undefined, 1)}\n`, 0o600);
  }
}
