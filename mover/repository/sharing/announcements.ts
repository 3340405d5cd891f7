/** The announcements of all movers of a repository, as the store lists them. */
import { announcementOf, decodeAnnouncement, JOURNAL_PREFIX, type Announcement } from '../../format/announcement';
import type { Store } from '../../stores/store';
import type { RepositoryKeys } from '../keys/repository-keys';
import { readDocument } from '../read-document';

const maxAnnouncementBytes = 64 * 1024 * 1024;

/** Sequences of each writer's announcements by its instance id, ascending; never an empty list. */
export async function listAnnouncements(store: Store): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for await (const name of store.list(JOURNAL_PREFIX)) {
    const announcement = announcementOf(name);
    if (!announcement) continue;
    const known = found.get(announcement.instanceId);
    if (known) known.push(announcement.sequence);
    else found.set(announcement.instanceId, [announcement.sequence]);
  }
  for (const sequences of found.values()) sequences.sort((a, b) => a - b);
  return found;
}

/** Undefined for one that is gone. Throws OBJECT_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, and as `Store.readWhole`. */
export async function readAnnouncement(store: Store, keys: RepositoryKeys | undefined, name: string): Promise<Announcement | undefined> {
  return (await readDocument(store, keys, name, maxAnnouncementBytes, decodeAnnouncement))?.content;
}
