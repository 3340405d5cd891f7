/** Backups of a world: made at once, or held open and gone on with later. */
import { randomUUID } from 'node:crypto';
import type { TestRepository } from '../test-repository';
import { blockOf, diskBlocks, sizeBytes, type ModelPoint, type WorldModel } from './model';
import type { Actor, Held, Movers } from './movers';

export class Backups {
  /** Seed of the next block that nobody has. */
  private unique = 1000;

  constructor(
    private readonly model: WorldModel,
    private readonly movers: Movers,
  ) {}

  async make(test: TestRepository): Promise<void> {
    const pointId = randomUUID();
    await this.commit(test, await this.begin(test), pointId);
  }

  /** Begins one and leaves it open. */
  async hold(test: TestRepository, actor: Actor): Promise<void> {
    if (actor.held.length >= 3) return;
    const held = await this.begin(test);
    if (this.model.random() < 0.5) await test.repository.blocks.flush();
    actor.held.push(held);
    this.model.note(actor.name, 'holds a session');
  }

  async resume(test: TestRepository, actor: Actor): Promise<void> {
    const { random } = this.model;
    const [held] = actor.held.splice(Math.floor(random() * actor.held.length), 1);
    if (!held) return;
    if (random() < 0.3) return held.session.abort('test');
    await this.write(test, held);
    await this.commit(test, held, randomUUID());
  }

  private async begin(test: TestRepository): Promise<Held> {
    const base = this.model.anyPoint('live');
    const session = await test.openSession(base ? [base[0]] : []);
    const draft = await test.openDisk(session, 'disk', sizeBytes, base?.[0] ?? '');
    const held = { session, draft, content: new Map(base?.[1].content), owner: {} };
    await this.write(test, held);
    return held;
  }

  private async write(test: TestRepository, { draft, content, owner }: Held): Promise<void> {
    const { random } = this.model;
    const count = 1 + Math.floor(random() * 8);
    for (let i = 0; i < count; i++) {
      const block = Math.floor(random() * diskBlocks);
      // Half of them are known already, perhaps.
      const seed = random() < 0.5 ? 1 + Math.floor(random() * 30) : this.unique++;
      await test.send(draft, block, blockOf(seed), owner);
      content.set(block, seed);
    }
    if (random() < 0.3) {
      const from = Math.floor(random() * diskBlocks);
      const to = Math.min(diskBlocks, from + 80);
      draft.zero(from, to - from);
      for (let block = from; block < to; block++) content.delete(block);
    }
  }

  private async commit(test: TestRepository, { session, draft, content, owner }: Held, pointId: string): Promise<void> {
    const { model } = this;
    for (;;) {
      const result = await session.commitDisk(draft, 100);
      if (!('missing' in result)) break;
      for (const block of result.missing) {
        const seed = content.get(block);
        if (seed === undefined) throw model.failure(`block ${block} is asked for, and is zero`);
        // Whoever else claimed it may never send it.
        for (const actor of this.movers.actors) for (const other of actor.held) actor.test?.repository.blocks.release(other.owner);
        await test.send(draft, block, blockOf(seed), owner);
      }
    }
    model.tell(`${test.repository.writerId}: commits ${pointId}`);
    model.points.set(pointId, { content: new Map(content), state: 'unsure' });
    await test.commit(session, [{ diskId: 'disk', sizeBytes }], pointId);
    (model.points.get(pointId) as ModelPoint).state = 'live';
    test.repository.blocks.release(owner);
  }
}
