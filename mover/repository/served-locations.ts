import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { CommonErrors } from '../../common/errors/common-errors';
import { SecretBox } from '../../common/secrets/secret-box';
import { durableWrite } from '../../common/tls/durable-write';
import type { S3Access } from '../stores/s3/bucket';

const fileFormat = z.object({
  locations: z.array(z.string()),
  access: z
    .array(z.object({ location: z.string(), accessKeyId: z.string(), sealedSecret: z.string(), caPem: z.string().optional() }))
    .default([]),
});

/** The locations that a mover serves, attached or not yet, and the keys to them: `repositories.json`, secrets sealed with `repositories.key`. */
export class ServedLocations {
  readonly #entries = new Map<string, S3Access | undefined>();
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
    for (const location of content.locations) this.#entries.set(location, undefined);
    for (const { location, accessKeyId, sealedSecret, caPem } of content.access) {
      this.#entries.set(location, { accessKeyId, secretAccessKey: this.#openBox().open(sealedSecret, location), caPem });
    }
  }

  get all(): readonly string[] {
    return [...this.#entries.keys()];
  }

  accessTo(location: string): S3Access | undefined {
    return this.#entries.get(location);
  }

  /** Durable when it returns. */
  add(location: string, access: S3Access | undefined): void {
    this.#entries.set(location, access);
    this.#save();
  }

  remove(location: string): void {
    if (this.#entries.delete(location)) this.#save();
  }

  #save(): void {
    const access = [...this.#entries].flatMap(([location, keys]) =>
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
    durableWrite(this.#file, JSON.stringify({ locations: this.all, access }), 0o600);
  }

  #openBox(): SecretBox {
    return (this.#box ??= SecretBox.open(this.#keyFile));
  }
}
