/**
 * Making and changing an object so that of several who try at the same time one wins. Where the server honours conditional writes, those do it;
 * where it only pretends or refuses, claims do: objects beside the name, one per contender, of which more than one means that nobody wins this
 * time. Needs a server whose lists show what was written before (S3 has promised that since December 2020, as do Ceph, MinIO and Swift with
 * one proxy).
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../../../common/errors/tidemark-error';
import type { Bucket } from './bucket';

export interface ExclusiveWrites {
  /** Makes an object unless there is one; false then. */
  create(key: string, content: Uint8Array): Promise<boolean>;
  /** Replaces an object, or removes it (undefined), if its content is still `expected`; false when it is not. */
  swap(key: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean>;
}

const maxExclusiveBytes = 1024 * 1024;
/** A claim this old is of somebody who died between two requests; requests give up long before. */
const deadClaimMs = 10 * 60_000;
const claimAttempts = 8;

/** How a server wants tags in conditions: as it gave them, or without their quotes (Ceph before 17). */
export type TagForm = 'quoted' | 'bare';

/** Whether the server really refuses a write whose condition does not hold, and in which form it knows its tags; some accept the header and ignore it. */
export async function probeConditions(bucket: Bucket, prefix: string): Promise<TagForm | undefined> {
  const key = `${prefix}.tidemark-probe-${randomUUID()}`;
  try {
    if (!(await bucket.put(key, randomBytes(8), { absent: true }))) return undefined;
    if (await bucket.put(key, randomBytes(8), { absent: true })) return undefined;
    if (await bucket.put(key, randomBytes(8), { etag: '"00000000000000000000000000000000"' })) return undefined;
    for (const form of ['quoted', 'bare'] as const) {
      const found = await bucket.get(key, maxExclusiveBytes);
      if (found && (await bucket.put(key, randomBytes(8), { etag: tagIn(form, found.etag) }))) return form;
    }
    return undefined;
  } catch (error) {
    // 501 Not Implemented and the like: an honest no. Everything else has its own message.
    if (hasCode(error, 'REPOSITORY_IO')) return undefined;
    throw error;
  } finally {
    await bucket.delete(key).catch(() => undefined);
  }
}

function tagIn(form: TagForm, etag: string): string {
  return form === 'bare' ? etag.replaceAll('"', '') : etag;
}

export class ConditionalWrites implements ExclusiveWrites {
  constructor(
    private readonly bucket: Bucket,
    private readonly form: TagForm,
  ) {}

  create(key: string, content: Uint8Array): Promise<boolean> {
    return this.bucket.put(key, content, { absent: true });
  }

  async swap(key: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    const found = await this.bucket.get(key, maxExclusiveBytes);
    if (!found?.content.equals(expected)) return false;
    const etag = tagIn(this.form, found.etag);
    if (content !== undefined) return await this.bucket.put(key, content, { etag });
    // No server has conditional deletes that can be relied on: take it over first, then nobody else has a reason to touch it.
    if (!(await this.bucket.put(key, Buffer.from(`removed ${randomUUID()}`), { etag }))) return false;
    await this.bucket.delete(key);
    return true;
  }
}

export class ClaimedWrites implements ExclusiveWrites {
  constructor(private readonly bucket: Bucket) {}

  create(key: string, content: Uint8Array): Promise<boolean> {
    return this.alone(key, async () => {
      if ((await this.bucket.get(key, maxExclusiveBytes)) !== undefined) return false;
      await this.bucket.put(key, content);
      return true;
    });
  }

  swap(key: string, expected: Buffer, content: Uint8Array | undefined): Promise<boolean> {
    return this.alone(key, async () => {
      const found = await this.bucket.get(key, maxExclusiveBytes);
      if (!found?.content.equals(expected)) return false;
      if (content === undefined) await this.bucket.delete(key);
      else await this.bucket.put(key, content);
      return true;
    });
  }

  /**
   * Does the work while no other claim on the key is there. Of two who claim at the same time at least one sees the other's claim, because
   * each lists after it wrote; who sees one withdraws and tries again after a random time.
   */
  private async alone(key: string, work: () => Promise<boolean>): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const claim = `${key}.claim/${randomUUID()}`;
      await this.bucket.put(claim, Buffer.alloc(0));
      try {
        if (await this.isOnly(key, claim)) return await work();
      } finally {
        await this.bucket.delete(claim);
      }
      if (attempt === claimAttempts) return false;
      await sleep(Math.random() * 100 * 2 ** attempt);
    }
  }

  private async isOnly(key: string, own: string): Promise<boolean> {
    let only = true;
    let ownTime: number | undefined;
    const others: { key: string; at: number }[] = [];
    for await (const { key: found, modifiedAt } of this.bucket.list(`${key}.claim/`)) {
      // The server's clock on both sides of the comparison.
      if (found === own) ownTime = modifiedAt?.getTime();
      else others.push({ key: found, at: modifiedAt?.getTime() ?? Infinity });
    }
    for (const other of others) {
      if (ownTime !== undefined && ownTime - other.at > deadClaimMs) await this.bucket.delete(other.key);
      else only = false;
    }
    return only && ownTime !== undefined;
  }
}
