/** Repositories and restore points. */
import { z } from 'zod';
import { bytes, Failure, itemName, named, optionalTime, Paging, reference } from './common';
import { ReadMode } from './inventory';

export const RepositoryKey = z.object({
  kind: z.enum(['passphrase', 'key-file', 'recovery']),
  /** The passphrase (at least 12 characters), the content of the key file (64 hexadecimal digits), or the recovery key. */
  secret: z.string().min(1).max(1024),
});
const Compression = z.enum(['none', 'lz4', 'zstd']);
/** zstd's. */
const CompressionLevel = z.int().min(1).max(19);
const Access = z.object({
  accessKeyId: z.string().min(1).max(256),
  secretAccessKey: z.string().min(1).max(1024),
  /** PEM of the CA that signed the server's certificate, when it is none of the public ones. */
  caPem: z.string().max(65_536).optional(),
});
const AddRequest = z.object({
  name: itemName,
  /**
   * `directory:<absolute path>` on the mover's machine (a bare absolute path means that too), or a bucket:
   * `s3:https://<host>[:<port>]/<bucket>[/<prefix>][?region=<region>&addressing=path|virtual]`, or a share: mounted on the mover's machine
   * (`nfs:/mnt/share`, `smb:/mnt/share`), or mounted by the mover (`nfs:<server>:/<export>`, `smb://<server>/<share>[/<folder>]`).
   */
  location: z.string().min(1).max(4096),
  /** Needed for a bucket. Kept by the mover, encrypted; never shown again. */
  access: Access.optional(),
  /** False: a new repository is made in the clear. */
  encrypted: z.boolean().default(true),
  /** Needed for a new repository that is encrypted (a passphrase or a key file), and for an encrypted one that is taken over. */
  key: RepositoryKey.optional(),
  /** The mover on the repository's own machine; needed when there is more than one mover and no gateway is to be used. */
  mover: reference.optional(),
  /**
   * Gateways that may carry data to it, where it has no mover or that is gone; empty: every gateway. Absent: every gateway for a bucket or a share
   * without a mover of its own, when there are gateways; else none.
   */
  gateways: z.array(reference).max(64).optional(),
  /** True: take over an existing repository; else make a new one. */
  attach: z.boolean().default(false),
  blockSizeBytes: z.int().min(65_536).max(4_194_304).optional(),
  compression: Compression.optional(),
  compressionLevel: CompressionLevel.optional(),
});
export const RepositoryAddRequest = AddRequest.refine(({ attach, encrypted, key }) => attach || encrypted === (key !== undefined), {
  path: ['key'],
  message: 'a new repository is encrypted and needs a passphrase or a key file; or say that it is not encrypted',
});
/** When it was last done well, when it was last tried, and why that failed; null: never, and: it did not. */
const Care = z.object({ doneAt: optionalTime, triedAt: optionalTime, failure: Failure.nullable() });
export const Repository = named(
  'Repository',
  z.object({
    id: z.string(),
    name: z.string(),
    location: z.string(),
    /** Empty when only gateways carry data to it. */
    moverId: z.string(),
    /** Ids of its gateways; empty: every gateway; null: none. */
    gateways: z.array(z.string()).nullable(),
    /** Among gateways that are reached and carry as much, best first. */
    preferredGateways: z.array(
      z.object({
        moverId: z.string(),
        /** Null: for workers of every cluster. */
        cluster: z.object({ platformId: z.string(), clusterId: z.string(), name: z.string() }).nullable(),
      }),
    ),
    state: z.enum(['available', 'unavailable']),
    /** Why it is unavailable, e.g. repository-mover-lost. */
    reason: z.string().nullable(),
    message: z.string().nullable(),
    blockSizeBytes: bytes,
    compression: Compression,
    /** zstd's. */
    compressionLevel: z.int(),
    /** Free space below which a warning is shown, and below which no backup begins. */
    softFreeBytes: bytes,
    hardFreeBytes: bytes,
    /** What it may take; 0: no limit. */
    capacityBytes: bytes,
    /** How long what was removed can be had back. */
    graceMs: z.int(),
    formatVersion: z.int(),
    createdAt: optionalTime,
    pointCount: z.int(),
    storedBytes: bytes,
    freeBytes: bytes,
    /** False where nobody can tell: freeBytes means nothing then. */
    freeBytesKnown: z.boolean(),
    /** Free space against the two marks: low is a warning, with full no backup begins. */
    space: z.enum(['enough', 'low', 'full']),
    blockCount: z.int(),
    openSessionCount: z.int(),
    encrypted: z.boolean(),
    /** What is condemned is given back when its grace time is over. */
    condemnedBytes: bytes,
    removedPointCount: z.int(),
    /** Blocks known to be damaged and not healed yet. */
    quarantinedBlockCount: z.int(),
    /** The oldest time at which some of it was verified; null while some never was. */
    verifiedSince: optionalTime,
    /** The last collection that ended well: any of this server, those of others as far as they found something to give back. */
    lastCollectedAt: optionalTime,
    /** What this server did for it: copies of its own configuration, collections, verifications of the whole. */
    care: z.object({ copy: Care, collect: Care, verify: Care }).nullable(),
  }),
);
const gatewayList = z.array(reference).max(64);
/** What is absent stays; 0 bytes mean the default. */
const Change = z.object({
  compression: Compression.optional(),
  compressionLevel: CompressionLevel.optional(),
  softFreeBytes: bytes.optional(),
  hardFreeBytes: bytes.optional(),
  capacityBytes: bytes.optional(),
  graceMs: z.int().min(0).optional(),
  /** The gateways from now on; empty: every gateway; null: none. A gateway that is taken away ends what it carries. */
  gateways: gatewayList.nullable().optional(),
  addGateways: gatewayList.min(1).optional(),
  removeGateways: gatewayList.min(1).optional(),
  /** Best first, for workers of a cluster (id or name) or of all; empty: none any more. */
  preferredGateways: z
    .array(z.object({ gateway: reference, cluster: reference.optional(), platform: reference.optional() }))
    .max(64)
    .optional(),
  /** Another access key, or user and password: tried before it replaces the one before, then given to all movers of the repository. */
  access: Access.optional(),
});
export const RepositoryChange = Change.refine((change) => change.gateways === undefined || !(change.addGateways ?? change.removeGateways), {
  path: ['gateways'],
  message: 'goes neither with addGateways nor with removeGateways',
});
export const RepositoryChanged = Repository.extend({
  /** Movers that could not follow; the change holds all the same. */
  problems: z.array(z.object({ moverId: z.string(), moverName: z.string(), code: z.string(), message: z.string() })),
});
export const RepositoryAdded = Repository.extend({
  /** Opens the repository when every other key is lost. Shown once, kept nowhere. */
  recoveryKey: z.string().nullable(),
});
export const RepositoryKeys = z.object({
  items: z.array(
    z.object({
      id: z.string(),
      kind: RepositoryKey.shape.kind,
      createdAt: optionalTime,
      /** The mover itself opens the repository with it. */
      inUse: z.boolean(),
    }),
  ),
  /** When the key for what is written now was made. */
  rotatedAt: optionalTime,
  dataKeyCount: z.int(),
});
/** Without a secret for a new recovery key. */
export const RepositoryKeyAddRequest = z
  .object({ kind: RepositoryKey.shape.kind, secret: z.string().max(1024).default('') })
  .refine(({ kind, secret }) => (kind === 'recovery') === (secret === ''), {
    path: ['secret'],
    message: 'needed, but not for a recovery key',
  });
export const RepositoryKeyAdded = z.object({ id: z.string(), recoveryKey: z.string().nullable() });
export const RepositoryKeyRemoveRequest = z.object({ key: z.string().min(1).max(64) });
export const RepositoryKeyRotated = z.object({ rotatedAt: optionalTime });
export const Counters = named(
  'Counters',
  z.object({
    plannedBytes: bytes,
    readBytes: bytes,
    transferredBytes: bytes,
    storedBytes: bytes,
    zeroBytes: bytes,
    deduplicatedBytes: bytes,
  }),
);
export const PointDisk = z.object({
  diskId: z.string(),
  name: z.string(),
  sizeBytes: bytes,
  format: z.string(),
  sparse: z.boolean(),
  storageDomainId: z.string(),
  interface: z.string(),
  bootable: z.boolean(),
  mode: ReadMode,
  reason: z.string(),
  counters: Counters,
});
export const Point = named(
  'Point',
  z.object({
    id: z.string(),
    repositoryId: z.string(),
    repositoryName: z.string(),
    platformId: z.string(),
    vmId: z.string(),
    vmName: z.string(),
    pointInTime: optionalTime,
    committedAt: optionalTime,
    jobName: z.string(),
    sessionId: z.string(),
    checkpointId: z.string(),
    consistency: z.enum(['unknown', 'crash', 'quiesced', 'offline']),
    /** The manifest cannot be trusted: the point is listed, not usable. */
    damaged: z.boolean(),
    message: z.string(),
    /** Held since: it cannot be removed, neither by hand nor by retention. */
    heldAt: optionalTime,
    disks: z.array(PointDisk),
  }),
);
export const PointQuery = Paging.extend({
  repository: reference.optional(),
  platform: reference.optional(),
  /** Id or name. */
  vm: reference.optional(),
  /** Ask the movers again rather than the cache. */
  refresh: z.stringbool().default(false),
});
