/**
 * Frames of the Data Mover protocol to bytes and back. Owns the byte layout of docs/protocol/data-mover.md §2 and nothing else:
 * it knows neither sockets nor sessions. Used on both sides, on the hot path: no payload is copied when encoding, and at most once
 * when reading.
 */
import type { Type } from 'protobufjs';
import { loadMessages } from '../loader';
import {
  carriesPayload,
  frameMessages,
  FRAME_MAGIC,
  FRAME_PREFIX_BYTES,
  isFrameType,
  MAX_HEADER_BYTES,
  type FrameHeaders,
  type FrameType,
} from './frame-types';

/**
 * Bytes to leave free before a payload so that `encodeFrameBefore` can put the rest of the frame there. Enough for every header
 * without text.
 */
export const FRAME_HEADROOM_BYTES = 128;

/** The peer sent something that is not this protocol; the connection cannot go on. Its code on the wire is FRAME_MALFORMED. */
export class FrameViolation extends Error {
  constructor(readonly problem: string) {
    super(problem);
    this.name = 'FrameViolation';
  }
}

const types: (Type | undefined)[] = [];
{
  const root = loadMessages('tidemark/mover/v1/data_frames.proto');
  for (const [type, name] of Object.entries(frameMessages)) types[Number(type)] = root.lookupType(`tidemark.mover.v1.${name}`);
}

/** The header message alone. Throws FrameViolation when it is longer than the protocol allows (texts are the only way). */
export function encodeHeader<T extends FrameType>(type: T, header: FrameHeaders[T]): Uint8Array {
  const bytes = (types[type] as Type).encode(header).finish();
  if (bytes.length > MAX_HEADER_BYTES) throw new FrameViolation(`header of ${frameMessages[type]} is ${bytes.length} bytes long`);
  return bytes;
}

/**
 * Fields of a header; absent ones hold their defaults. Byte fields are views on `bytes`. Throws FrameViolation when it does not
 * parse or a number is beyond 2^53.
 */
export function decodeHeader<T extends FrameType>(type: T, bytes: Uint8Array): FrameHeaders[T] {
  const message = types[type] as Type;
  let fields: Record<string, unknown>;
  try {
    fields = message.toObject(message.decode(bytes), { defaults: true, longs: Number, bytes: Buffer });
  } catch {
    throw new FrameViolation(`header of ${frameMessages[type]} does not parse`);
  }
  for (const name in fields) {
    const value = fields[name];
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      throw new FrameViolation(`${frameMessages[type]}.${name} is out of range`);
  }
  return fields as unknown as FrameHeaders[T];
}

function writePrefix(target: Buffer, offset: number, type: FrameType, headerLength: number, payloadLength: number): void {
  target.writeUInt32BE(FRAME_MAGIC, offset);
  target.writeUInt16BE(type << 8, offset + 4);
  target.writeUInt16BE(headerLength, offset + 6);
  target.writeUInt32BE(payloadLength, offset + 8);
}

/**
 * All of a frame but its payload, for `cork` and two writes: `write(encodeFrameHead(…)); write(payload)`.
 */
export function encodeFrameHead<T extends FrameType>(type: T, header: FrameHeaders[T], payloadLength: number): Buffer {
  const bytes = encodeHeader(type, header);
  const head = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + bytes.length);
  writePrefix(head, 0, type, bytes.length, payloadLength);
  head.set(bytes, FRAME_PREFIX_BYTES);
  return head;
}

/** A whole frame in a new buffer; the payload is copied, so this is for small ones. */
export function encodeFrame<T extends FrameType>(type: T, header: FrameHeaders[T], payload?: Uint8Array): Buffer {
  const bytes = encodeHeader(type, header);
  const frame = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + bytes.length + (payload?.length ?? 0));
  writePrefix(frame, 0, type, bytes.length, payload?.length ?? 0);
  frame.set(bytes, FRAME_PREFIX_BYTES);
  if (payload) frame.set(payload, FRAME_PREFIX_BYTES + bytes.length);
  return frame;
}

/**
 * Completes a frame around a payload that already lies at `payloadOffset` of `buffer`, with at least FRAME_HEADROOM_BYTES before
 * it, and returns the view to write: one write, no copy. The buffer may be reused only when that write's callback was called.
 */
export function encodeFrameBefore<T extends FrameType>(
  buffer: Buffer,
  payloadOffset: number,
  payloadLength: number,
  type: T,
  header: FrameHeaders[T],
): Buffer {
  const bytes = encodeHeader(type, header);
  const start = payloadOffset - bytes.length - FRAME_PREFIX_BYTES;
  if (start < 0) throw new FrameViolation(`header of ${frameMessages[type]} needs ${-start} bytes more headroom`);
  writePrefix(buffer, start, type, bytes.length, payloadLength);
  buffer.set(bytes, start + FRAME_PREFIX_BYTES);
  return buffer.subarray(start, payloadOffset + payloadLength);
}

/** What the first 12 bytes say, judged. */
export interface FramePrefix {
  readonly type: FrameType;
  readonly headerLength: number;
  readonly payloadLength: number;
}

/** Judges the first 12 bytes at `offset`. Throws FrameViolation; nothing was allocated by then. */
export function decodePrefix(bytes: Buffer, offset: number, maxPayloadBytes: number): FramePrefix {
  if (bytes.readUInt32BE(offset) !== FRAME_MAGIC) throw new FrameViolation('wrong magic');
  const type = bytes[offset + 4] as number;
  if (!isFrameType(type)) throw new FrameViolation(`unknown frame type ${type}`);
  if (bytes[offset + 5] !== 0) throw new FrameViolation('flags are not zero');
  const headerLength = bytes.readUInt16BE(offset + 6);
  if (headerLength > MAX_HEADER_BYTES) throw new FrameViolation(`header of ${headerLength} bytes`);
  const payloadLength = bytes.readUInt32BE(offset + 8);
  if (payloadLength > 0 && !carriesPayload(type)) throw new FrameViolation(`${frameMessages[type]} carries no payload`);
  if (payloadLength > maxPayloadBytes) throw new FrameViolation(`payload of ${payloadLength} bytes`);
  return { type, headerLength, payloadLength };
}
