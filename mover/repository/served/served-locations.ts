import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { CommonErrors } from '../../../common/errors/common-errors';
import { SecretBox } from '../../../common/secrets/secret-box';
import { durableWrite } from '../../../common/tls/durable-write';
import type { RepositoryKey } from '../../format/key-slot';
import type { S3Access } from '../../stores/s3/bucket';

const fileFormat = z.object({
  locations: z.array(z.string()),
  access: z
    .array(z.object({ location: z.string(), accessKeyId: z.string(), sealedSecret: z.string(), caPem: z.string().optional() }))
    .default([]),
  /** What opens encrypted repositories: keys of slots, never the secrets that people chose. */
  keys: z.array(z.object({ location: z.string(), sealedKey: z.string() })).default([]),
});

/** What is kept for a location. */
export interface Kept {
  readonly access: S3Access | undefined;
  readonly key: RepositoryKey | undefined;
}

/** The locations that a mover serves, attached or not yet, and the keys to them: `repositories.json`, secrets sealed with `repositories.key`. */
export class ServedLocations {
  readonly #entries = new Map<string, Kept>();
  readonly #file: string;
  readonly #keyFile: string;
  #box: SecretBox | undefined;

  constructor(dataFolder: string) {
    this.#file = path.join(dataFolder, 'repositories.json');
    this.#keyFile = path.join(dataFolder, 'repositories.key');
  }

  /** Throws CONFIGURATION_INVALID, SECRETS_DAMAGED. */
  load(): void {
    let text: string;
    try {
      text = fs.readFileSync(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw CommonErrors.CONFIGURATION_INVALID({ problems: `- ${this.#file} cannot be read` }, { cause: error });
    }
    let content: z.infer<typeof fileFormat>;
    try {
      content = fileFormat.parse(JSON.parse(text));
    } catch (cause) {
      throw CommonErrors.CONFIGURATION_INVALID(
        { problems: `- ${this.#file} is damaged; remove it and attach the repositories again` },
        { cause },
      );
    }
    for (const location of content.locations) this.#entries.set(location, { access: undefined, key: undefined });
    for (const { location, accessKeyId, sealedSecret, caPem } of content.access) {
      const secretAccessKey = this.#openBox().open(sealedSecret, location);
      this.#entries.set(location, { access: { accessKeyId, secretAccessKey, caPem }, key: undefined });
    }
    for (const { location, sealedKey } of content.keys) {
      const secret = this.#openBox().open(sealedKey, keyBinding(location));
      this.#entries.set(location, { access: this.kept(location).access, key: { kind: 'slot-key', secret } });
    }
  }

  get all(): readonly string[] {
    return [...this.#entries.keys()];
  }

  kept(location: string): Kept {
    return this.#entries.get(location) ?? { access: undefined, key: undefined };
  }

  /** Durable when it returns. */
  add(location: string, kept: Kept): void {
    this.#entries.set(location, kept);
    this.#save();
  }

  remove(location: string): void {
    if (this.#entries.delete(location)) this.#save();
  }

  #save(): void {
    const access = [...this.#entries].flatMap(([location, { access: keys }]) =>
      keys === undefined
        ? []
        : [
            {
              location,
              accessKeyId: keys.accessKeyId,
              sealedSecret: this.#openBox().seal(keys.secretAccessKey, location),
              ...(keys.caPem === undefined ? {} : { caPem: keys.caPem }),
            },
          ],
    );
    const keys = [...this.#entries].flatMap(([location, { key }]) =>
      key === undefined ? [] : [{ location, sealedKey: this.#openBox().seal(key.secret, keyBinding(location)) }],
    );
    durableWrite(this.#file, JSON.stringify({ locations: this.all, access, keys }), 0o600);
  }

  #openBox(): SecretBox {
    return (this.#box ??= SecretBox.open(this.#keyFile));
  }
}

/** A sealed key of a repository is not one of a bucket. */
function keyBinding(location: string): string {
  return `repository key ${location}`;
}
