/** Frames of a backup: disks are opened, blocks offered and put, disks committed. */
import { CommonErrors } from '../../common/errors/common-errors';
import type { TicketClaims } from '../../common/tickets/ticket';
import { encodeFrame, FrameViolation } from '../../proto/data-mover/frame-codec';
import {
  encodeBlockList,
  encodeBlockRanges,
  newPutBitmap,
  offerBlock,
  offerDigest,
  offerEntryCount,
  setPutBit,
} from '../../proto/data-mover/frame-payloads';
import { FrameType, MAX_MAPPED_RANGES, PAYLOAD_SLACK_BYTES, type FrameHeaders, type PutFrame } from '../../proto/data-mover/frame-types';
import { DataPortErrors, SessionErrors } from '../errors/mover-errors';
import { BlockKind } from '../format/block';
import { rawLengthOf } from '../format/index-page';
import type { DiskDraft } from '../sessions/disk-draft';
import type { Lane, Session } from '../sessions/session';
import type { Channel, Handlers } from './channel';
import { judgePut } from './judge-put';
import type { DataPortLimits } from './limits';

/** Offers whose blocks may all be asked for and not put yet; a worker has some two under way. */
const maxClaimedOffers = 8;
const missingLimit = 65_536;

interface Claim {
  readonly draft: DiskDraft;
  readonly block: number;
}

export class WriteFrames {
  private readonly drafts = new Map<number, DiskDraft>();
  private readonly asked = new Map<string, Claim>();

  constructor(
    private readonly session: Session,
    private readonly claims: TicketClaims,
    /** Whose claims on offered blocks are given up with the connection. */
    private readonly lane: Lane,
    private readonly channel: Channel,
    private readonly limits: DataPortLimits,
  ) {}

  get handlers(): Handlers {
    return {
      [FrameType.openDisk]: (header) => this.onOpenDisk(header),
      [FrameType.offer]: (header, payload) => this.onOffer(header, payload),
      [FrameType.put]: (header, payload) => this.onPut(header, payload),
      [FrameType.zero]: (header) => this.onZero(header),
      [FrameType.listMapped]: (header) => this.onListMapped(header),
      [FrameType.commitDisk]: (header) => this.onCommitDisk(header),
    };
  }

  private async onOpenDisk(open: FrameHeaders[typeof FrameType.openDisk]): Promise<void> {
    this.assertWritable();
    const { sequence, diskId, sizeBytes, basePointId, baseDiskId, contentId = '' } = open;
    if (diskId === '' || diskId.length > 256) throw CommonErrors.ARGUMENT_INVALID({ field: 'disk_id', problem: 'it is empty or too long' });
    if (contentId.length > 256) throw CommonErrors.ARGUMENT_INVALID({ field: 'content_id', problem: 'it is too long' });
    const draft = await this.session.openDisk({ diskId, sizeBytes, basePointId, baseDiskId, contentId });
    if (draft === 'committed') return this.channel.send(encodeFrame(FrameType.diskOpened, { sequence, handle: 0, committed: true }));
    // Handles of disks that are no longer written: of whoever opens a disk with one content after the other there must not be more and more.
    for (const [old, { isClosed }] of this.drafts) if (isClosed) this.drafts.delete(old);
    this.drafts.set(draft.handle, draft);
    const { handle, hasMapped } = draft;
    this.channel.send(encodeFrame(FrameType.diskOpened, { sequence, handle, committed: false, hasMapped }));
  }

  private onListMapped({ sequence, handle, firstBlock }: FrameHeaders[typeof FrameType.listMapped]): void {
    const { ranges, nextBlock } = this.draft(handle).listMapped(firstBlock, MAX_MAPPED_RANGES);
    this.channel.send(encodeFrame(FrameType.mapped, { sequence, nextBlock }, encodeBlockRanges(ranges)));
  }

  private onZero({ sequence, handle, firstBlock, blockCount }: FrameHeaders[typeof FrameType.zero]): void {
    this.draft(handle).zero(firstBlock, blockCount);
    this.channel.send(encodeFrame(FrameType.zeroReply, { sequence }));
  }

  private onOffer(offer: FrameHeaders[typeof FrameType.offer], payload: Buffer): void {
    const draft = this.draft(offer.handle);
    const count = offerEntryCount(payload);
    if (count > this.limits.maxBatch) throw new FrameViolation(`an offer of ${count} entries`);
    if (this.asked.size + count > this.limits.maxBatch * maxClaimedOffers)
      throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'too many offered blocks were not put' });
    const bitmap = newPutBitmap(count);
    for (let position = 0; position < count; position++) {
      const block = offerBlock(payload, position);
      const digest = offerDigest(payload, position);
      if (draft.offer(block, digest, this.lane) !== 'put') continue;
      this.asked.set(digest.toString('latin1'), { draft, block });
      setPutBit(bitmap, position);
    }
    this.channel.send(encodeFrame(FrameType.offerReply, { sequence: offer.sequence }, bitmap));
  }

  private onPut(put: PutFrame, payload: Buffer): void | Promise<void> {
    this.assertWritable();
    const { blocks, blockSizeBytes } = this.session.repository;
    const key = Buffer.from(put.digest).toString('latin1');
    const claim = this.asked.get(key);
    const expected = claim ? rawLengthOf(claim.block, claim.draft.request.sizeBytes, blockSizeBytes) : undefined;
    judgePut(put, payload, blockSizeBytes, expected);
    const waiting = blocks.putBlock({
      digest: Buffer.from(put.digest),
      codec: put.codec,
      kind: BlockKind.data,
      rawLength: put.rawLength,
      payload,
    });
    this.asked.delete(key);
    claim?.draft.noteStored(Buffer.from(put.digest), payload.length);
    const reply = encodeFrame(FrameType.putReply, { sequence: put.sequence });
    if (!waiting) return this.channel.send(reply);
    return waiting.then(() => this.channel.send(reply));
  }

  private onCommitDisk({ sequence, handle }: FrameHeaders[typeof FrameType.commitDisk]): void | Promise<void> {
    const draft = this.draft(handle);
    const maxPayloadBytes = this.session.repository.blockSizeBytes + PAYLOAD_SLACK_BYTES;
    const limit = Math.min(missingLimit, Math.floor(maxPayloadBytes / 8));
    return this.channel.beside(sequence, async () => {
      const result = await this.session.commitDisk(draft, limit);
      if ('missing' in result) {
        const none = { sequence, indexRoot: Buffer.alloc(0), storedBytes: 0, deduplicatedBytes: 0 };
        return this.channel.send(encodeFrame(FrameType.diskCommitted, none, encodeBlockList(result.missing)));
      }
      const { indexRoot, storedBytes, deduplicatedBytes } = result.committed;
      const header = { sequence, indexRoot: Buffer.from(indexRoot, 'hex'), storedBytes, deduplicatedBytes };
      this.channel.send(encodeFrame(FrameType.diskCommitted, header));
    });
  }

  private assertWritable(): void {
    if (this.session.kind !== 'backup') throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'the session is not a backup' });
    if (!this.claims.rights.includes('write')) throw DataPortErrors.TICKET_RIGHT_MISSING({ right: 'write' });
  }

  private draft(handle: number): DiskDraft {
    this.assertWritable();
    const draft = this.drafts.get(handle);
    if (!draft) throw SessionErrors.DISK_NOT_OPEN({ handle });
    return draft;
  }
}
