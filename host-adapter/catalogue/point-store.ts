import { sql } from 'kysely';
import { SerialQueues } from '../../common/flow/serial-queue';
import type { Counters, ReadMode } from '../jobs/task-record';
import type { Database } from './catalogue';

export interface StoredPointDisk {
  readonly diskId: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly format: string;
  readonly sparse: boolean;
  readonly storageDomainId: string;
  readonly interface: string;
  readonly bootable: boolean;
  readonly mode: ReadMode;
  readonly reason: string;
  readonly counters: Counters;
}

/** A point as the catalogue remembers it; the repository is the truth. */
export interface StoredPoint {
  readonly repositoryId: string;
  readonly id: string;
  readonly platformId: string;
  readonly vmId: string;
  readonly vmName: string;
  /** Empty when damaged. */
  readonly pointInTime: string;
  readonly committedAt: string;
  readonly jobName: string;
  readonly sessionId: string;
  readonly checkpointId: string;
  readonly consistency: 'unknown' | 'crash' | 'quiesced' | 'offline';
  readonly damaged: boolean;
  readonly message: string;
  readonly disks: readonly StoredPointDisk[];
}

/** A listing under way, and what changed since it began. */
interface Replacement {
  readonly changes: Map<string, StoredPoint | undefined>;
  /** Ends when the catalogue has been replaced; set with the last look at `changes`. */
  writing: Promise<void> | undefined;
}

/** The cache of restore points. */
export class PointStore {
  /** Per repository; one listing after the other. */
  readonly #replacing = new Map<string, Replacement>();
  readonly #queues = new SerialQueues();

  constructor(private readonly db: Database) {}

  async put(point: StoredPoint): Promise<void> {
    await this.#changed(point.repositoryId, point.id, point);
    const row = pointRow(point);
    await this.db
      .insertInto('point')
      .values(row)
      .onConflict((c) => c.columns(['repositoryId', 'id']).doUpdateSet(row))
      .execute();
  }

  /**
   * Replaces what is known of a repository by what its mover lists. Points that are put or removed meanwhile stay so: the listing may have begun
   * before them. Throws what `list` throws; then nothing is changed.
   */
  replaceAll(repositoryId: string, list: () => Promise<readonly StoredPoint[]>): Promise<void> {
    return this.#queues.run(repositoryId, async () => {
      const replacement: Replacement = { changes: new Map(), writing: undefined };
      this.#replacing.set(repositoryId, replacement);
      try {
        const { changes } = replacement;
        const points = new Map<string, StoredPoint | undefined>((await list()).map((point) => [point.id, point]));
        for (const [id, point] of changes) points.set(id, point);
        replacement.writing = this.#replace(
          repositoryId,
          [...points.values()].filter((point) => point !== undefined),
        );
        await replacement.writing;
      } finally {
        this.#replacing.delete(repositoryId);
      }
    });
  }

  async #replace(repositoryId: string, points: readonly StoredPoint[]): Promise<void> {
    await this.db.transaction().execute(async (tx) => {
      await tx.deleteFrom('point').where('repositoryId', '=', repositoryId).execute();
      for (let at = 0; at < points.length; at += 500) {
        await tx
          .insertInto('point')
          .values(points.slice(at, at + 500).map(pointRow))
          .execute();
      }
    });
  }

  /** A listing under way must know of it; one that is just being written must be in the catalogue first, lest it undoes the change. */
  async #changed(repositoryId: string, id: string, point: StoredPoint | undefined): Promise<void> {
    const replacement = this.#replacing.get(repositoryId);
    replacement?.changes.set(id, point);
    await replacement?.writing?.catch(() => undefined);
  }

  async remove(repositoryId: string, id: string): Promise<void> {
    await this.#changed(repositoryId, id, undefined);
    await this.db.deleteFrom('point').where('repositoryId', '=', repositoryId).where('id', '=', id).execute();
  }

  /** Of one repository. */
  async counts(repositoryId: string): Promise<{ readonly usable: number; readonly damaged: number }> {
    const rows = await this.db
      .selectFrom('point')
      .select((e) => ['damaged', e.fn.countAll<number>().as('count')])
      .where('repositoryId', '=', repositoryId)
      .groupBy('damaged')
      .execute();
    const of = (damaged: number) => Number(rows.find((row) => row.damaged === damaged)?.count ?? 0);
    return { usable: of(0), damaged: of(1) };
  }

  async find(id: string): Promise<StoredPoint | undefined> {
    const row = await this.db.selectFrom('point').select('pointJson').where('id', '=', id).executeTakeFirst();
    return row && (JSON.parse(row.pointJson) as StoredPoint);
  }

  /** Newest first. */
  async list(
    limit: number,
    before: string | undefined,
    filter: { repositoryId?: string | undefined; platformId?: string | undefined; vm?: string | undefined },
  ): Promise<StoredPoint[]> {
    let query = this.db.selectFrom('point').select('pointJson').orderBy('pointInTime', 'desc').orderBy('id', 'desc').limit(limit);
    if (before !== undefined) {
      const [at = '', id = ''] = before.split('~');
      query = query.where((e) => e.or([e('pointInTime', '<', at), e.and([e('pointInTime', '=', at), e('id', '<', id)])]));
    }
    const { repositoryId, platformId, vm } = filter;
    if (repositoryId !== undefined) query = query.where('repositoryId', '=', repositoryId);
    if (platformId !== undefined) query = query.where('platformId', '=', platformId);
    if (vm !== undefined) query = query.where((e) => e.or([e('vmId', '=', vm), e('vmName', '=', vm)]));
    return (await query.execute()).map((row) => JSON.parse(row.pointJson) as StoredPoint);
  }

  /** The newest usable point of a VM in a repository, which an incremental may start from. */
  async newest(repositoryId: string, platformId: string, vmId: string): Promise<StoredPoint | undefined> {
    const row = await this.db
      .selectFrom('point')
      .select('pointJson')
      .where('repositoryId', '=', repositoryId)
      .where('platformId', '=', platformId)
      .where('vmId', '=', vmId)
      .where('damaged', '=', 0)
      .orderBy('pointInTime', 'desc')
      .limit(1)
      .executeTakeFirst();
    return row && (JSON.parse(row.pointJson) as StoredPoint);
  }

  /** Per VM (`platform/vm`): how many points, and the newest. */
  async perVm(): Promise<Map<string, { count: number; lastAt: string; lastId: string }>> {
    const rows = await this.db
      .selectFrom('point')
      .select((e) => ['platformId', 'vmId', e.fn.countAll<number>().as('count'), sql<string>`max("pointInTime" || '~' || "id")`.as('last')])
      .where('damaged', '=', 0)
      .groupBy(['platformId', 'vmId'])
      .execute();
    return new Map(
      rows.map((row) => {
        const [lastAt = '', lastId = ''] = row.last.split('~');
        return [`${row.platformId}/${row.vmId}`, { count: Number(row.count), lastAt, lastId }];
      }),
    );
  }
}

function pointRow(point: StoredPoint) {
  return {
    repositoryId: point.repositoryId,
    id: point.id,
    platformId: point.platformId,
    vmId: point.vmId,
    vmName: point.vmName,
    pointInTime: point.pointInTime,
    damaged: point.damaged ? 1 : 0,
    pointJson: JSON.stringify(point),
  };
}
