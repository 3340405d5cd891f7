/** The movers of a world: they start, work, die at any step that leaves something on the disk, and start again. */
import fs from 'node:fs';
import path from 'node:path';
import { isTidemarkError } from '../../../common/errors/tidemark-error';
import { parseLease } from '../../repository/sharing/lease-object';
import type { DiskDraft } from '../../sessions/disk-draft';
import type { Session } from '../../sessions/session';
import { TestRepository } from '../test-repository';
import type { WorldModel } from './model';

/** A backup that is not committed yet. */
export interface Held {
  readonly session: Session;
  readonly draft: DiskDraft;
  readonly content: Map<number, number>;
  readonly owner: object;
}

/** One mover's process. */
export class Actor {
  test: TestRepository | undefined;
  held: Held[] = [];
  /** Steps to go until it dies; 0: it lives. */
  fuse = 0;
  isDead = false;

  constructor(readonly name: string) {}

  /** Before anything that is left on the disk. */
  step(): void {
    if (this.fuse > 0 && --this.fuse === 0) this.isDead = true;
    if (this.isDead) throw Object.assign(new Error('killed'), { code: 'EIO' });
  }
}

export type Work = (test: TestRepository, actor: Actor) => Promise<void>;

export class Movers {
  readonly actors: readonly [Actor, Actor] = [new Actor('mover-a'), new Actor('mover-b')];

  constructor(private readonly model: WorldModel) {}

  any(): Actor {
    return this.actors[Math.floor(this.model.random() * this.actors.length)] as Actor;
  }

  /** Starts it when it does not run. */
  async opened(actor: Actor): Promise<TestRepository> {
    if (actor.test) return actor.test;
    const { folder, options } = this.model;
    actor.isDead = false;
    actor.fuse = 0;
    actor.held = [];
    actor.test = await TestRepository.open(folder, {
      cacheFolder: this.cacheOf(actor),
      lock: { instanceId: actor.name, leaseDurationMs: 30_000, waitMs: 0 },
      packTargetBytes: 300_000,
      step: () => actor.step(),
      ...(options.key && { key: options.key }),
    });
    this.model.count('movers started', 1);
    return actor.test;
  }

  /** Lets it work; it may be refused by what others do, and it may die. */
  async act(actor: Actor, work: Work): Promise<void> {
    const test = await this.opened(actor);
    try {
      await work(test, actor);
    } catch (error) {
      // What a damaged plan was about to delete is not had back before it is settled.
      const isUnsettled = this.model.isDamaged && isTidemarkError(error) && error.code === 'OBJECT_DAMAGED';
      if (!actor.isDead && !isUnsettled && !isRefusal(error)) throw error;
      this.model.note(actor.name, isTidemarkError(error) ? error.code : 'failed');
    }
    actor.fuse = 0;
    if (actor.isDead) await this.stop(actor, false);
  }

  /** Work at whose n-th step on the disk the mover dies. */
  async crash(actor: Actor, work: () => Work): Promise<void> {
    const { random } = this.model;
    await this.opened(actor);
    actor.fuse = 1 + Math.floor(random() * random() * 120);
    this.model.note(actor.name, `dies after ${actor.fuse}`);
    await this.act(actor, work());
  }

  async restart(actor: Actor): Promise<void> {
    await this.stop(actor, this.model.random() < 0.6);
    if (this.model.random() < 0.4) fs.rmSync(this.cacheOf(actor), { recursive: true, force: true });
    await this.opened(actor);
  }

  async stop(actor: Actor, clean: boolean): Promise<void> {
    const { test } = actor;
    if (!test) return;
    if (!clean) actor.isDead = true;
    actor.test = undefined;
    // Of a dead one nothing reaches the disk any more; this frees what the process holds.
    const ends = await Promise.allSettled([test.sessions.stop().then(() => test.repository.close())]);
    if (clean && ends[0].status === 'rejected') throw ends[0].reason;
    if (clean) return;
    this.model.count('movers killed', 1);
    this.model.someoneDied = true;
    await test.repository.close().catch(() => undefined);
    await test.repository.store.close();
    this.makeHolderDead(`writers/${actor.name}.lease`, actor);
    this.makeHolderDead('maintenance', actor);
  }

  /** This process lives on: make the lease say that its holder was another one. */
  private makeHolderDead(name: string, actor: Actor): void {
    const file = this.model.fileOf(name);
    if (!fs.existsSync(file)) return;
    const lease = parseLease(fs.readFileSync(file, 'utf8'));
    if (lease?.instanceId === actor.name) fs.writeFileSync(file, JSON.stringify({ ...lease, processStartedAt: 'before' }));
  }

  private cacheOf(actor: Actor): string {
    return path.join(this.model.folder, `cache-${actor.name}`);
  }
}

/** What a mover may be told while others work beside it. */
function isRefusal(error: unknown): boolean {
  const codes = ['MAINTENANCE_BUSY', 'MAINTENANCE_LOST', 'POINT_IN_USE', 'POINT_NOT_FOUND', 'CANCELLED'];
  return isTidemarkError(error) && codes.includes(error.code);
}
