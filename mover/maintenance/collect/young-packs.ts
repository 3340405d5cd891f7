import { announcementName } from '../../format/announcement';
import { readAhead } from '../../repository/read-ahead';
import type { Repository } from '../../repository/repository';
import { listAnnouncements, readAnnouncement } from '../../repository/sharing/announcements';

const readsAtOnce = 8;

/**
 * Packs announced after `since`, by the clocks of those who announced them. Only a hint, so that what a running backup is about to refer to does not
 * have to be sent again: nothing depends on these clocks.
 */
export async function youngPacks({ store, keys }: Repository, since: number): Promise<Set<string>> {
  const young = new Set<string>();
  for (const [instanceId, sequences] of await listAnnouncements(store)) {
    const read = (sequence: number) => readAnnouncement(store, keys, announcementName(instanceId, sequence));
    for await (const announcement of readAhead(sequences.reverse(), readsAtOnce, read)) {
      if (!announcement) continue;
      if (Date.parse(announcement.announcedAt) <= since) break;
      for (const id of announcement.packs) young.add(id);
    }
  }
  return young;
}
