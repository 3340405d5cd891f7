import { announcementName, announcementOf, decodeAnnouncement, JOURNAL_PREFIX } from '../../format/announcement';
import { readDocument } from '../../repository/read-document';
import type { Repository } from '../../repository/repository';

const maxAnnouncementBytes = 64 * 1024 * 1024;

/**
 * Packs announced after `since`, by the clocks of those who announced them. Only a hint, so that what a running backup is about to refer to does not
 * have to be sent again: nothing depends on these clocks.
 */
export async function youngPacks({ store, keys }: Repository, since: number): Promise<Set<string>> {
  const sequences = new Map<string, number[]>();
  for await (const name of store.list(JOURNAL_PREFIX)) {
    const found = announcementOf(name);
    if (!found) continue;
    const known = sequences.get(found.instanceId);
    if (known) known.push(found.sequence);
    else sequences.set(found.instanceId, [found.sequence]);
  }
  const young = new Set<string>();
  for (const [instanceId, found] of sequences) {
    for (const sequence of found.sort((a, b) => b - a)) {
      const name = announcementName(instanceId, sequence);
      const announcement = (await readDocument(store, keys, name, maxAnnouncementBytes, decodeAnnouncement))?.content;
      if (!announcement) continue;
      if (Date.parse(announcement.announcedAt) <= since) break;
      for (const id of announcement.packs) young.add(id);
    }
  }
  return young;
}
