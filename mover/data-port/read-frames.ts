/** Frames of a restore or a verification: images of points are opened and read. */
import type { TicketClaims } from '../../common/tickets/ticket';
import { encodeFrame, encodeFrameHead, FrameViolation } from '../../proto/data-mover/frame-codec';
import { FrameType, type FrameHeaders } from '../../proto/data-mover/frame-types';
import { BlockErrors, DataPortErrors, SessionErrors } from '../errors/mover-errors';
import type { BufferPool } from '../repository/blocks/buffer-pool';
import { ImageReader, type StoredBlockView } from '../repository/blocks/image-reader';
import type { Session } from '../sessions/session';
import type { Channel, Handlers } from './channel';
import type { DataPortLimits } from './limits';

const maxHandles = 1024;

export class ReadFrames {
  private readonly images = new Map<number, ImageReader>();
  private nextImage = 1;
  private reads: Promise<void> = Promise.resolve();

  constructor(
    private readonly session: Session,
    private readonly claims: TicketClaims,
    private readonly channel: Channel,
    private readonly limits: DataPortLimits,
    private readonly pool: BufferPool,
  ) {}

  get handlers(): Handlers {
    return {
      [FrameType.openImage]: (header) => this.onOpenImage(header),
      [FrameType.read]: (header) => this.onRead(header),
    };
  }

  private async onOpenImage({ sequence, pointId, diskId }: FrameHeaders[typeof FrameType.openImage]): Promise<void> {
    this.assertReadable();
    if (!this.claims.pointIds.includes(pointId) || !this.session.pointIds.includes(pointId))
      throw DataPortErrors.TICKET_RIGHT_MISSING({ right: `read point ${pointId}` });
    if (this.images.size >= maxHandles) throw DataPortErrors.FRAME_UNEXPECTED({ problem: 'too many images are open' });
    const image = await ImageReader.open(this.session.repository, pointId, diskId);
    const handle = this.nextImage++;
    this.images.set(handle, image);
    const { sizeBytes, allocatedBlocks } = image;
    this.channel.send(encodeFrame(FrameType.imageOpened, { sequence, handle, sizeBytes, allocatedBlocks }));
  }

  private onRead(read: FrameHeaders[typeof FrameType.read]): void | Promise<void> {
    this.assertReadable();
    const image = this.images.get(read.handle);
    if (!image) throw SessionErrors.DISK_NOT_OPEN({ handle: read.handle });
    if (read.blockCount > this.limits.maxBatch) throw new FrameViolation(`a read of ${read.blockCount} blocks`);
    if (read.firstBlock > image.blocks) throw BlockErrors.BLOCK_OUT_OF_RANGE({ block: read.firstBlock, blocks: image.blocks });
    return this.channel.beside(read.sequence, () => {
      // Sent one after the other, so that the answers to one read are not mixed with those to the next; read beside each other.
      const turn = this.reads.catch(() => undefined);
      this.reads = this.answer(read, image, turn);
      return this.reads;
    });
  }

  private async answer(read: FrameHeaders[typeof FrameType.read], image: ImageReader, turn: Promise<void>): Promise<void> {
    const { sequence, firstBlock, blockCount } = read;
    const send = (group: readonly StoredBlockView[], buffer: Buffer) => {
      const parts = group.flatMap(({ block, digest, codec, rawLength, payload }) => [
        encodeFrameHead(FrameType.block, { sequence, block, digest, codec, rawLength }, payload.length),
        payload,
      ]);
      this.channel.sendParts(parts, () => this.pool.release(buffer));
      return this.channel.roomToSend();
    };
    if (read.checked === true) {
      await turn;
      await image.readChecked(firstBlock, blockCount, this.pool, send);
    } else {
      // Also one that fails waits for its turn: the next one's begins when this one ends.
      await image.read(firstBlock, blockCount, this.pool, send, turn).finally(() => turn);
    }
    const end = Math.min(firstBlock + blockCount, image.blocks);
    this.channel.send(encodeFrame(FrameType.readDone, { sequence, nextAllocatedBlock: await image.nextAllocated(end) }));
  }

  private assertReadable(): void {
    if (!this.claims.rights.includes('read')) throw DataPortErrors.TICKET_RIGHT_MISSING({ right: 'read' });
  }
}
