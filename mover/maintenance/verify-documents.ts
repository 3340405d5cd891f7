/** Reads every sealed document of a repository beside packs and manifests: header, keys, settings, sessions, drafts, and what movers tell each other. */
import type { TidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { announcementName, announcementOf, decodeAnnouncement, JOURNAL_PREFIX, type Announcement } from '../format/announcement';
import { decodePlan, PLAN_PREFIX, planNumberOf } from '../format/collection-plan';
import { decodeDraft, DRAFT_PREFIX, draftPlaceOf } from '../format/draft-record';
import { decodeHostDocument, HOST_DOCUMENT_PREFIX, hostDocumentNameOf } from '../format/host-document';
import { decodeKeys, keysCopyName } from '../format/keys-document';
import { decodeQuarantine, QUARANTINE_PREFIX, quarantineOf } from '../format/quarantine';
import { HEADER_NAME } from '../format/repository-header';
import { decodeRoster, ROSTER_PREFIX, rosterName, rosterNumberOf } from '../format/roster';
import { decodeSession, SESSION_PREFIX, sessionIdOf } from '../format/session-record';
import { decodeSettings, SETTINGS_NAME } from '../format/settings-document';
import { decodeTombstone, TOMBSTONE_PREFIX, tombstoneOf } from '../format/tombstone';
import { readAhead } from '../repository/read-ahead';
import { readDocument, type Decode } from '../repository/read-document';
import { listAnnouncements } from '../repository/sharing/announcements';
import { readHeader } from '../repository/repository';
import { isThere } from '../stores/is-there';
import { findMissing, MISSING_PROBLEM } from './missing-points';
import { damageOf } from './verify-findings';
import type { VerifyRun } from './verify-run';

const maxDocumentBytes = 64 * 1024 * 1024;

/** Documents read at the same time. */
const documentsAtOnce = 8;

interface ObjectProblem {
  readonly name: string;
  readonly problem: TidemarkError;
}

interface DocumentKind {
  readonly prefix: string;
  /** False for names of others, which are left alone. */
  readonly isOurs: (name: string) => boolean;
  readonly decode: Decode<unknown>;
}

export class DocumentVerifier {
  /** What announcements told of points, by their names; those that cannot be read are left out. */
  private readonly told = new Map<string, Pick<Announcement, 'manifests' | 'changed'>>();
  private readonly kinds: readonly DocumentKind[] = [
    {
      prefix: SESSION_PREFIX,
      isOurs: (name) => sessionIdOf(name) !== undefined,
      decode: (bytes, name, cipher) => {
        if (decodeSession(bytes, name, cipher).sessionId !== sessionIdOf(name))
          throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is the record of another session' });
      },
    },
    { prefix: DRAFT_PREFIX, isOurs: (name) => draftPlaceOf(name) !== undefined, decode: decodeDraft },
    { prefix: HOST_DOCUMENT_PREFIX, isOurs: (name) => hostDocumentNameOf(name) !== undefined, decode: decodeHostDocument },
    { prefix: TOMBSTONE_PREFIX, isOurs: (name) => tombstoneOf(name) !== undefined, decode: decodeTombstone },
    { prefix: QUARANTINE_PREFIX, isOurs: (name) => quarantineOf(name) !== undefined, decode: decodeQuarantine },
    {
      prefix: JOURNAL_PREFIX,
      isOurs: (name) => announcementOf(name) !== undefined,
      decode: (...document) => {
        const { manifests, changed } = decodeAnnouncement(...document);
        this.told.set(document[1], { manifests, changed });
      },
    },
    { prefix: PLAN_PREFIX, isOurs: (name) => planNumberOf(name) !== undefined, decode: decodePlan },
    { prefix: ROSTER_PREFIX, isOurs: (name) => rosterNumberOf(name) !== undefined, decode: decodeRoster },
  ];

  constructor(private readonly run: VerifyRun) {}

  /** Throws CANCELLED, REPOSITORY_IO. */
  async verify(): Promise<void> {
    const { store, header, keys } = this.run.repository;
    this.tell(await this.problemOf(HEADER_NAME, async () => void (await readHeader(store))));
    if (keys && header.encryption) {
      const names = [header.encryption.keys, keysCopyName(header.encryption.keys)];
      for (const name of names) this.tell(await this.document(name, (bytes) => decodeKeys(bytes, name), { sealed: false, required: true }));
    }
    this.tell(await this.document(SETTINGS_NAME, (bytes, _name, cipher) => decodeSettings(bytes, cipher)));
    for (const { prefix, isOurs, decode } of this.kinds) {
      const names: string[] = [];
      for await (const name of store.list(prefix)) if (isOurs(name)) names.push(name);
      for await (const problem of readAhead(names, documentsAtOnce, (name) => this.document(name, decode))) this.tell(problem);
    }
    await this.verifyNothingIsMissing();
  }

  private document<T>(name: string, decode: Decode<T>, { sealed = true, required = false } = {}): Promise<ObjectProblem | undefined> {
    const { store, keys } = this.run.repository;
    return this.problemOf(name, async () => {
      // One that is not there any more was deleted since it was listed.
      const found = await readDocument(store, sealed ? keys : undefined, name, maxDocumentBytes, decode);
      if (!found && required) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is missing' });
      await this.run.mayRead(found?.bytes.length ?? 0);
    });
  }

  /** Points whose manifests are gone, and other objects of which it is known that they have to be there. */
  private async verifyNothingIsMissing(): Promise<void> {
    const { repository, findings } = this.run;
    this.run.assertGoesOn();
    const { missing, expected } = await findMissing(repository, (name) => Promise.resolve(this.told.get(name)));
    for (const { pointId, objectName } of missing) {
      // Found at the walk.
      if (findings.isDamagedPoint(pointId)) continue;
      const { code, message } = RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is missing' });
      findings.add({ code, pointId, diskId: '', objectName, message });
    }
    const { roster, problem, rosterNumber } = expected;
    // One that is there and cannot be read was found as a document.
    if (problem?.meta['problem'] === MISSING_PROBLEM) findings.addObject(rosterName(rosterNumber), problem);
    if (roster?.hasSettings === true && !(await isThere(repository.store, SETTINGS_NAME))) this.tellMissing(SETTINGS_NAME);
    await this.verifyAnnouncements(new Map(roster?.journals.map(({ instanceId, sequence }) => [instanceId, sequence])));
  }

  /** Sequences have no holes, and the newest of each writer stays for ever. Collections delete in ascending order. */
  private async verifyAnnouncements(covered: ReadonlyMap<string, number>): Promise<void> {
    const { store } = this.run.repository;
    const found = await listAnnouncements(store);
    for (const [instanceId, sequence] of covered)
      if ((found.get(instanceId)?.at(-1) ?? 0) < sequence) this.tellMissing(announcementName(instanceId, sequence));
    for (const [instanceId, sequences] of found) {
      for (const [i, sequence] of sequences.entries()) {
        const before = sequences[i - 1] ?? sequence - 1;
        if (sequence === before + 1) continue;
        const name = announcementName(instanceId, before + 1);
        // A collection that deletes meanwhile has deleted the one before by now, too.
        if (!(await isThere(store, name)) && (await isThere(store, announcementName(instanceId, before)))) this.tellMissing(name);
      }
    }
  }

  private tellMissing(object: string): void {
    this.run.findings.addObject(object, RepositoryErrors.OBJECT_DAMAGED({ object, problem: MISSING_PROBLEM }));
  }

  private tell(found: ObjectProblem | undefined): void {
    if (found) this.run.findings.addObject(found.name, found.problem);
  }

  private async problemOf(name: string, work: () => Promise<void>): Promise<ObjectProblem | undefined> {
    this.run.assertGoesOn();
    try {
      await work();
      return undefined;
    } catch (error) {
      // The checks are right and the content is not JSON: written so.
      const isText = error instanceof SyntaxError;
      return { name, problem: isText ? RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is no JSON' }) : damageOf(error) };
    }
  }
}
