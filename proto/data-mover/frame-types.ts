/**
 * The frames of the Data Mover protocol, version 1: numbers, header shapes, and which of them carry a payload.
 * Specified byte by byte in docs/protocol/data-mover.md; the header messages are in tidemark/mover/v1/data_frames.proto.
 */

/** Version in Hello and Welcome. */
export const DATA_MOVER_VERSION = 1;
/** TLS application protocol of the data port. */
export const DATA_MOVER_ALPN = 'tidemark-data/1';
/** TLS 1.3 suites in order of preference: AES-128 costs 13 % less than AES-256 on the block path. */
export const DATA_MOVER_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** `TDM1`. */
export const FRAME_MAGIC = 0x54444d31;
/** Magic, type, flags, header length, payload length. */
export const FRAME_PREFIX_BYTES = 12;
export const MAX_HEADER_BYTES = 4096;
/** A payload may be this much longer than a block: incompressible data and offers of small blocks. */
export const PAYLOAD_SLACK_BYTES = 4096;
export const DIGEST_BYTES = 32;
export const PAYLOAD_CHECK_BYTES = 16;
/** Longest payload of a Probe. */
export const MAX_PROBE_BYTES = 1024 * 1024;
/** What one connection may send in Probes. */
export const MAX_PROBED_BYTES = 256 * 1024 * 1024;
/** Ranges in one Mapped. */
export const MAX_MAPPED_RANGES = 4096;

/** Codec numbers in Welcome, Put and Block. */
export const BlockCodec = { none: 0, zstd: 1, lz4: 2 } as const;
export type BlockCodec = (typeof BlockCodec)[keyof typeof BlockCodec];

export const FrameType = {
  hello: 1,
  welcome: 2,
  openDisk: 3,
  diskOpened: 4,
  offer: 5,
  offerReply: 6,
  put: 7,
  putReply: 8,
  zero: 9,
  zeroReply: 10,
  commitDisk: 11,
  diskCommitted: 12,
  openImage: 13,
  imageOpened: 14,
  read: 15,
  block: 16,
  readDone: 17,
  ping: 18,
  pong: 19,
  bye: 20,
  probe: 21,
  probeReply: 22,
  listMapped: 23,
  mapped: 24,
  error: 31,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** A header with nothing but the sequence. */
export interface SequenceFrame {
  sequence: number;
}

export interface HelloFrame {
  version: number;
  ticket: string;
}

export interface WelcomeFrame {
  version: number;
  sessionId: string;
  blockSizeBytes: number;
  digestKey: Uint8Array;
  codec: number;
  codecLevel: number;
  maxPutsInFlight: number;
  maxBatch: number;
}

export interface OpenDiskFrame extends SequenceFrame {
  diskId: string;
  sizeBytes: number;
  basePointId: string;
  baseDiskId: string;
  /** Absent: empty. */
  contentId?: string;
}

export interface DiskOpenedFrame extends SequenceFrame {
  handle: number;
  committed: boolean;
  /** Absent: false. */
  hasMapped?: boolean;
}

export interface OfferFrame extends SequenceFrame {
  handle: number;
}

export interface PutFrame extends SequenceFrame {
  digest: Uint8Array;
  codec: number;
  rawLength: number;
  payloadCheck: Uint8Array;
}

export interface ZeroFrame extends SequenceFrame {
  handle: number;
  firstBlock: number;
  blockCount: number;
}

export interface CommitDiskFrame extends SequenceFrame {
  handle: number;
}

export interface DiskCommittedFrame extends SequenceFrame {
  indexRoot: Uint8Array;
  storedBytes: number;
  deduplicatedBytes: number;
}

export interface OpenImageFrame extends SequenceFrame {
  pointId: string;
  diskId: string;
}

export interface ImageOpenedFrame extends SequenceFrame {
  handle: number;
  sizeBytes: number;
  allocatedBlocks: number;
}

export interface ReadFrame extends SequenceFrame {
  handle: number;
  firstBlock: number;
  blockCount: number;
  /** Absent: false. */
  checked?: boolean;
}

export interface BlockFrame extends SequenceFrame {
  block: number;
  digest: Uint8Array;
  codec: number;
  rawLength: number;
}

export interface ReadDoneFrame extends SequenceFrame {
  nextAllocatedBlock: number;
}

export interface ByeFrame {
  reason: string;
}

export interface ProbeReplyFrame extends SequenceFrame {
  /** All that came over the connection so far. */
  receivedBytes: number;
}

export interface ListMappedFrame extends SequenceFrame {
  handle: number;
  firstBlock: number;
}

export interface MappedFrame extends SequenceFrame {
  /** Where the next question goes on; the disk's block count when this was all. */
  nextBlock: number;
}

export interface ErrorFrame extends SequenceFrame {
  code: string;
  message: string;
  /** RetryAdvice number of tidemark.common.v1. */
  retry: number;
}

/** Header of each type. 64-bit fields are numbers: blocks and bytes of a disk stay far below 2^53, and the reader refuses more. */
export interface FrameHeaders {
  [FrameType.hello]: HelloFrame;
  [FrameType.welcome]: WelcomeFrame;
  [FrameType.openDisk]: OpenDiskFrame;
  [FrameType.diskOpened]: DiskOpenedFrame;
  [FrameType.offer]: OfferFrame;
  [FrameType.offerReply]: SequenceFrame;
  [FrameType.put]: PutFrame;
  [FrameType.putReply]: SequenceFrame;
  [FrameType.zero]: ZeroFrame;
  [FrameType.zeroReply]: SequenceFrame;
  [FrameType.commitDisk]: CommitDiskFrame;
  [FrameType.diskCommitted]: DiskCommittedFrame;
  [FrameType.openImage]: OpenImageFrame;
  [FrameType.imageOpened]: ImageOpenedFrame;
  [FrameType.read]: ReadFrame;
  [FrameType.block]: BlockFrame;
  [FrameType.readDone]: ReadDoneFrame;
  [FrameType.ping]: SequenceFrame;
  [FrameType.pong]: SequenceFrame;
  [FrameType.bye]: ByeFrame;
  [FrameType.probe]: SequenceFrame;
  [FrameType.probeReply]: ProbeReplyFrame;
  [FrameType.listMapped]: ListMappedFrame;
  [FrameType.mapped]: MappedFrame;
  [FrameType.error]: ErrorFrame;
}

/** Message name of each type in tidemark.mover.v1. */
export const frameMessages: Readonly<Record<FrameType, string>> = {
  [FrameType.hello]: 'HelloFrame',
  [FrameType.welcome]: 'WelcomeFrame',
  [FrameType.openDisk]: 'OpenDiskFrame',
  [FrameType.diskOpened]: 'DiskOpenedFrame',
  [FrameType.offer]: 'OfferFrame',
  [FrameType.offerReply]: 'OfferReplyFrame',
  [FrameType.put]: 'PutFrame',
  [FrameType.putReply]: 'PutReplyFrame',
  [FrameType.zero]: 'ZeroFrame',
  [FrameType.zeroReply]: 'ZeroReplyFrame',
  [FrameType.commitDisk]: 'CommitDiskFrame',
  [FrameType.diskCommitted]: 'DiskCommittedFrame',
  [FrameType.openImage]: 'OpenImageFrame',
  [FrameType.imageOpened]: 'ImageOpenedFrame',
  [FrameType.read]: 'ReadFrame',
  [FrameType.block]: 'BlockFrame',
  [FrameType.readDone]: 'ReadDoneFrame',
  [FrameType.ping]: 'PingFrame',
  [FrameType.pong]: 'PongFrame',
  [FrameType.bye]: 'ByeFrame',
  [FrameType.probe]: 'ProbeFrame',
  [FrameType.probeReply]: 'ProbeReplyFrame',
  [FrameType.listMapped]: 'ListMappedFrame',
  [FrameType.mapped]: 'MappedFrame',
  [FrameType.error]: 'ErrorFrame',
};

const withPayload: ReadonlySet<number> = new Set([
  FrameType.offer,
  FrameType.offerReply,
  FrameType.put,
  FrameType.diskCommitted,
  FrameType.block,
  FrameType.probe,
  FrameType.mapped,
]);

/** True when frames of the type may carry a payload. */
export function carriesPayload(type: FrameType): boolean {
  return withPayload.has(type);
}

/** True for a number that names a frame type. */
export function isFrameType(type: number): type is FrameType {
  return Object.hasOwn(frameMessages, type);
}
