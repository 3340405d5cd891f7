/**
 * The worker image on the plug-in's machine: `tidemark-worker-<version>.json` with version and checksum, and the qcow2 file beside it. Made
 * by scripts/worker-image, brought by the package tidemark-worker-image.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { WorkerVmErrors } from './worker-vm-errors';

export interface WorkerImage {
  readonly version: string;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  readonly path: string;
  readonly fileBytes: number;
  /** Of the disk that it is. */
  readonly diskBytes: number;
}

const manifestSchema = z.object({
  version: z.string().regex(/^[0-9A-Za-z][0-9A-Za-z.+~-]{0,99}$/),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Name of the qcow2 file; default: that of the manifest. */
  file: z.string().min(1).optional(),
});

const qcow2Magic = 0x514649fb;
const systemFolder = '/usr/share/tidemark/worker-image';

/** Where images are looked for when the configuration names no folder: those that were built here, else those of the package. */
export function defaultImageFolder(installation = path.resolve(__dirname, '..', '..', '..')): string {
  const built = path.join(installation, '.cache', 'worker-image');
  return fs.existsSync(built) ? built : systemFolder;
}

export class WorkerImages {
  /** Files whose checksum was seen to be right, by path, size and time. */
  readonly #verified = new Set<string>();
  #latest: WorkerImage | undefined;
  #missing: TidemarkError | undefined;

  constructor(readonly folder: string) {}

  /** What the last look found, without looking. */
  get latest(): WorkerImage | undefined {
    return this.#latest;
  }

  /** Why there is none; undefined when there is one, or before the first look. */
  get missing(): TidemarkError | undefined {
    return this.#missing;
  }

  /** The newest image, its checksum not looked at. Throws WORKER_IMAGE_MISSING, WORKER_IMAGE_DAMAGED. */
  async find(): Promise<WorkerImage> {
    try {
      this.#latest = await this.#newest();
      this.#missing = undefined;
      return this.#latest;
    } catch (error) {
      this.#latest = undefined;
      if (isTidemarkError(error)) this.#missing = error;
      throw error;
    }
  }

  /** As {@link find}, and its bytes are what its manifest says. Reads the file once per version. */
  async verified(signal?: AbortSignal): Promise<WorkerImage> {
    const image = await this.find();
    const { size, mtimeMs } = await fs.promises.stat(image.path);
    const key = `${image.path} ${size} ${mtimeMs} ${image.sha256}`;
    if (this.#verified.has(key)) return image;
    const digest = createHash('sha256');
    for await (const part of fs.createReadStream(image.path, { highWaterMark: 1024 ** 2, ...(signal ? { signal } : {}) })) {
      digest.update(part as Buffer);
    }
    if (digest.digest('hex') !== image.sha256) {
      throw WorkerVmErrors.WORKER_IMAGE_DAMAGED({ file: image.path, problem: 'its SHA-256 is not that of its manifest' });
    }
    this.#verified.add(key);
    return image;
  }

  async #newest(): Promise<WorkerImage> {
    const { folder } = this;
    const missing = (problem: string) => WorkerVmErrors.WORKER_IMAGE_MISSING({ folder, problem });
    let names: string[];
    try {
      names = (await fs.promises.readdir(folder)).filter((name) => /^tidemark-worker-.*\.json$/.test(name));
    } catch {
      throw missing(`the folder ${folder} cannot be read`);
    }
    const manifests = await Promise.all(
      names.map(async (name) => {
        const file = path.join(folder, name);
        return { name, ...(await readManifest(file)), madeAt: (await fs.promises.stat(file)).mtimeMs };
      }),
    );
    // Builds of the same release differ by a digest of their inputs, which has no order.
    manifests.sort((a, b) => compareReleases(b.version, a.version) || b.madeAt - a.madeAt);
    const [newest] = manifests;
    if (!newest) throw missing(`the folder ${folder} has no tidemark-worker-*.json`);
    const file = path.join(folder, path.basename(newest.file ?? newest.name.replace(/\.json$/, '.qcow2')));
    const { fileBytes, diskBytes } = await readQcow2(file);
    return { version: newest.version, sha256: newest.sha256, path: file, fileBytes, diskBytes };
  }
}

/** Negative when `a` is older; what follows a hyphen does not count, numbers are compared as numbers. */
function compareReleases(a: string, b: string): number {
  const release = (version: string) => version.replace(/-.*$/, '');
  return release(a).localeCompare(release(b), 'en', { numeric: true });
}

async function readManifest(file: string): Promise<z.infer<typeof manifestSchema>> {
  try {
    return manifestSchema.parse(JSON.parse(await fs.promises.readFile(file, 'utf8')));
  } catch (error) {
    throw WorkerVmErrors.WORKER_IMAGE_DAMAGED({ file, problem: 'it does not name version and sha256' }, { cause: error });
  }
}

/** Sizes of a qcow2 file without a backing file. Header: docs/interop/qcow2.txt of QEMU, big-endian. */
async function readQcow2(file: string): Promise<{ fileBytes: number; diskBytes: number }> {
  const damaged = (problem: string, cause?: unknown) => WorkerVmErrors.WORKER_IMAGE_DAMAGED({ file, problem }, { cause });
  const header = Buffer.alloc(32);
  let fileBytes: number;
  try {
    const handle = await fs.promises.open(file, 'r');
    try {
      fileBytes = (await handle.stat()).size;
      await handle.read(header, 0, header.length, 0);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw damaged('it is missing or cannot be read', error);
  }
  if (header.readUInt32BE(0) !== qcow2Magic) throw damaged('it is not a qcow2 file');
  if (header.readBigUInt64BE(8) !== 0n) throw damaged('it has a backing file');
  return { fileBytes, diskBytes: Number(header.readBigUInt64BE(24)) };
}
