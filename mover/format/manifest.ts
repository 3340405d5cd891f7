/** Manifests of restore points, as docs/formats/manifest.md has them. */
import { z } from 'zod';
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import type { DocumentCipher } from './document-cipher';
import { openDocument, sealDocument, sealedLength } from './sealed-document';

const kind = { magic: 'TDMKPOIN', version: 1, encryptedVersion: 2 };
export const MANIFEST_PREFIX = 'points/';
/** Enough of a manifest's start to know how long its first section is. */
export const MANIFEST_START_BYTES = 64;

const count = z.number().int().min(0);
const counters = z.object({
  plannedBytes: count,
  readBytes: count,
  transferredBytes: count,
  storedBytes: count,
  zeroBytes: count,
  deduplicatedBytes: count,
});

const disk = z.object({
  diskId: z.string(),
  name: z.string(),
  sizeBytes: count,
  format: z.string(),
  sparse: z.boolean(),
  storageDomainId: z.string(),
  interface: z.string(),
  bootable: z.boolean(),
  readMode: z.enum(['unspecified', 'full', 'incremental', 'digest-compare']),
  reason: z.string(),
  counters,
  indexRoot: z.string().regex(/^[0-9a-f]{64}$/),
  allocatedBlocks: count,
});

const schema = z.object({
  pointId: z.string(),
  repositoryId: z.string(),
  sessionId: z.string(),
  platformId: z.string(),
  vmId: z.string(),
  vmName: z.string(),
  jobName: z.string(),
  checkpointId: z.string(),
  pointInTime: z.iso.datetime(),
  committedAt: z.iso.datetime(),
  consistency: z.enum(['unspecified', 'crash', 'quiesced', 'offline']),
  blockSizeBytes: z.number().int(),
  disks: z.array(disk),
});

/** One restore point without its configuration. */
export type PointRecord = z.infer<typeof schema>;
export type PointDiskRecord = z.infer<typeof disk>;

/** Bytes of a manifest. The configuration may hold secrets; it is never logged. `cipher` is that of its name in an encrypted repository. */
export function encodeManifest(point: PointRecord, configuration: string, cipher?: DocumentCipher): Buffer {
  return sealDocument(
    kind,
    [
      { codec: 'zstd', content: Buffer.from(JSON.stringify(point)) },
      { codec: 'zstd', content: Buffer.from(configuration) },
    ],
    cipher,
  );
}

/** The point and its configuration. Throws MANIFEST_DAMAGED or REPOSITORY_FORMAT_UNKNOWN. */
export function decodeManifest(bytes: Buffer, pointId: string, cipher?: DocumentCipher): { point: PointRecord; configuration: string } {
  return guarded(pointId, () => {
    const [point, configuration] = openDocument(kind, bytes, 'manifest', undefined, cipher);
    return { point: parsePoint(point as Buffer, pointId), configuration: (configuration as Buffer).toString('utf8') };
  });
}

/** The point from the manifest's start; see `pointSectionLength`. Throws as `decodeManifest`. */
export function decodePointSection(start: Buffer, pointId: string, cipher?: DocumentCipher): PointRecord {
  return guarded(pointId, () => parsePoint(openDocument(kind, start, 'manifest', 1, cipher)[0] as Buffer, pointId));
}

/** How many bytes from the manifest's start `decodePointSection` needs. */
export function pointSectionLength(start: Buffer, pointId: string): number {
  return guarded(pointId, () => sealedLength(kind, start, 1, 'manifest'));
}

function parsePoint(content: Buffer, pointId: string): PointRecord {
  const point = schema.parse(JSON.parse(content.toString('utf8')));
  if (point.pointId !== pointId) throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: `it is of point ${point.pointId}` });
  return point;
}

function guarded<T>(pointId: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (isTidemarkError(cause) && cause.code !== 'OBJECT_DAMAGED') throw cause;
    const problem = isTidemarkError(cause) ? String(cause.meta['problem']) : 'its content is not a point';
    throw RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem }, { cause });
  }
}

/** Object name of a manifest. */
export function manifestName(committedAt: Date, pointId: string): string {
  return `${MANIFEST_PREFIX}${committedAt.toISOString().replace(/[-:.]/g, '')}-${pointId}.manifest`;
}

/** Point id of a manifest's name; undefined for foreign names. */
export function pointIdOf(name: string): string | undefined {
  return /^points\/\d{8}T\d{9}Z-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.manifest$/.exec(name)?.[1];
}
