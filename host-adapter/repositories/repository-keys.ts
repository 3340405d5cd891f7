import { randomUUID } from 'node:crypto';
import { timestampFromWire } from '../../common/rpc/bytes';
import { kindFromWire, keyToWire, type GivenKey, type KeyKind } from './key-message';
import { HostErrors } from '../errors/host-errors';
import type { Repositories } from './repositories';
import { RepositorySecrets } from './repository-secrets';

export interface KeyView {
  readonly id: string;
  readonly kind: KeyKind;
  readonly createdAt: string | null;
  readonly inUse: boolean;
}

/** The keys of encrypted repositories: what opens them, and rotation. All methods throw what the mover says, and REPOSITORY_UNKNOWN. */
export class RepositoryKeys {
  constructor(private readonly repositories: Repositories) {}

  async list(reference: string): Promise<{ items: KeyView[]; rotatedAt: string | null; dataKeyCount: number }> {
    const { mover, repositoryId } = await this.#of(reference);
    const own = RepositorySecrets.slotOf(await this.repositories.row(repositoryId));
    const reply = await mover.repositories.call('ListRepositoryKeySlots', { repositoryId }, { deadlineMs: 10_000, attempts: 3 });
    return {
      items: reply.slots.map(({ slotId, kind, createdAt, inUse }) => ({
        id: slotId,
        kind: kindFromWire(kind),
        createdAt: timestampFromWire(createdAt)?.toISOString() ?? null,
        inUse: inUse || slotId === own,
      })),
      rotatedAt: timestampFromWire(reply.rotatedAt)?.toISOString() ?? null,
      dataKeyCount: reply.dataKeyCount,
    };
  }

  /** The recovery key is set when one was asked for; it is shown once. */
  async add(reference: string, key: GivenKey): Promise<{ id: string; recoveryKey: string | null }> {
    const { mover, repositoryId } = await this.#of(reference);
    const slotId = randomUUID();
    const request = { repositoryId, slotId, key: keyToWire(key) };
    const { recoveryKey } = await mover.repositories.call('AddRepositoryKeySlot', request, { deadlineMs: 30_000, attempts: 3 });
    return { id: slotId, recoveryKey: recoveryKey === '' ? null : recoveryKey };
  }

  /** Also throws REPOSITORY_KEY_OF_SERVER. */
  async remove(reference: string, slotId: string): Promise<void> {
    if (RepositorySecrets.slotOf(await this.repositories.row(reference)) === slotId) throw HostErrors.REPOSITORY_KEY_OF_SERVER({ slotId });
    const { mover, repositoryId } = await this.#of(reference);
    await mover.repositories.call('RemoveRepositoryKeySlot', { repositoryId, slotId }, { deadlineMs: 10_000 });
  }

  async rotate(reference: string): Promise<{ rotatedAt: string | null }> {
    const { mover, repositoryId } = await this.#of(reference);
    const { rotatedAt } = await mover.repositories.call('RotateRepositoryKey', { repositoryId }, { deadlineMs: 30_000 });
    return { rotatedAt: timestampFromWire(rotatedAt)?.toISOString() ?? null };
  }

  async #of(reference: string) {
    const { id: repositoryId } = await this.repositories.row(reference);
    return { mover: await this.repositories.mover(repositoryId), repositoryId };
  }
}
