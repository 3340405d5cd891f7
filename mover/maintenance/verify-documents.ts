/** Reads every sealed document of a repository beside packs and manifests: header, keys, settings, sessions, drafts, and what movers tell each other. */
import { isTidemarkError } from '../../common/errors/tidemark-error';
import { RepositoryErrors } from '../errors/mover-errors';
import { decodeAnnouncement, announcementOf, JOURNAL_PREFIX } from '../format/announcement';
import { decodePlan, PLAN_PREFIX, planNumberOf } from '../format/collection-plan';
import { decodeDraft, DRAFT_PREFIX, draftPlaceOf } from '../format/draft-record';
import { decodeHostDocument, HOST_DOCUMENT_PREFIX, hostDocumentNameOf } from '../format/host-document';
import { decodeKeys, keysCopyName } from '../format/keys-document';
import { pointIdOf } from '../format/manifest';
import { decodeQuarantine, QUARANTINE_PREFIX, quarantineOf } from '../format/quarantine';
import { HEADER_NAME } from '../format/repository-header';
import { decodeSession, SESSION_PREFIX, sessionIdOf } from '../format/session-record';
import { decodeSettings, SETTINGS_NAME } from '../format/settings-document';
import { decodeTombstone, TOMBSTONE_PREFIX, tombstoneOf } from '../format/tombstone';
import { readDocument, type Decode } from '../repository/read-document';
import { readHeader } from '../repository/repository';
import { damageOf } from './verify-findings';
import type { VerifyRun } from './verify-run';

const maxDocumentBytes = 64 * 1024 * 1024;

interface DocumentKind {
  readonly prefix: string;
  /** False for names of others, which are left alone. */
  readonly isOurs: (name: string) => boolean;
  readonly decode: Decode<unknown>;
}

export class DocumentVerifier {
  /** Manifests that some mover told of, and objects that some mover said it changed or deleted. */
  private readonly toldManifests = new Set<string>();
  private readonly toldChanged = new Set<string>();
  private readonly collectedPoints = new Set<string>();
  /** Each mover's newest announcement: a collection leaves it, even when it deleted what is told of there. */
  private readonly newest = new Map<string, { readonly sequence: number; readonly manifests: readonly string[] }>();
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
        for (const name of changed) this.toldChanged.add(name);
        this.noteManifests(document[1], manifests);
      },
    },
    {
      prefix: PLAN_PREFIX,
      isOurs: (name) => planNumberOf(name) !== undefined,
      decode: (...document) => {
        for (const id of decodePlan(...document).points) this.collectedPoints.add(id);
      },
    },
  ];

  constructor(private readonly run: VerifyRun) {}

  /** Throws CANCELLED, REPOSITORY_IO. */
  async verify(): Promise<void> {
    const { store, header, keys } = this.run.repository;
    await this.guarded(HEADER_NAME, async () => void (await readHeader(store)));
    if (keys && header.encryption) {
      const names = [header.encryption.keys, keysCopyName(header.encryption.keys)];
      for (const name of names) await this.document(name, (bytes) => decodeKeys(bytes, name), { sealed: false, required: true });
    }
    await this.document(SETTINGS_NAME, (bytes, _name, cipher) => decodeSettings(bytes, cipher), {});
    for (const { prefix, isOurs, decode } of this.kinds)
      for await (const name of store.list(prefix)) if (isOurs(name)) await this.document(name, decode, {});
    await this.verifyManifestsAreThere();
  }

  private async document<T>(name: string, decode: Decode<T>, { sealed = true, required = false }): Promise<void> {
    const { store, keys } = this.run.repository;
    await this.guarded(name, async () => {
      // One that is not there any more was deleted since it was listed.
      const found = await readDocument(store, sealed ? keys : undefined, name, maxDocumentBytes, decode);
      if (!found && required) throw RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is missing' });
      await this.run.mayRead(found?.bytes.length ?? 0);
    });
  }

  private noteManifests(announcement: string, manifests: readonly string[]): void {
    const { instanceId, sequence } = announcementOf(announcement) as { instanceId: string; sequence: number };
    const other = this.newest.get(instanceId);
    const isNewest = other === undefined || other.sequence < sequence;
    for (const name of (isNewest ? other?.manifests : manifests) ?? []) this.toldManifests.add(name);
    if (isNewest) this.newest.set(instanceId, { sequence, manifests });
  }

  /** A manifest that somebody told of and nobody removed must be there. */
  private async verifyManifestsAreThere(): Promise<void> {
    const { points, store } = this.run.repository;
    for (const name of this.toldManifests) {
      const pointId = pointIdOf(name);
      if (pointId === undefined || this.toldChanged.has(name) || this.collectedPoints.has(pointId)) continue;
      await this.guarded(name, async () => {
        this.run.assertGoesOn();
        try {
          await store.sizeOf(name);
        } catch (error) {
          if (!isTidemarkError(error) || error.code !== 'OBJECT_NOT_FOUND') throw error;
          // Found at the walk, or deleted by a collection right now.
          if (points.has(pointId) || (await points.tombstones.look(pointId))) return;
          const { code, message } = RepositoryErrors.MANIFEST_DAMAGED({ pointId, problem: 'it is missing' });
          this.run.findings.add({ code, pointId, diskId: '', objectName: name, message });
        }
      });
    }
  }

  private async guarded(name: string, work: () => Promise<void>): Promise<void> {
    this.run.assertGoesOn();
    try {
      await work();
    } catch (error) {
      // The checks are right and the content is not JSON: written so.
      if (error instanceof SyntaxError)
        this.run.findings.addObject(name, RepositoryErrors.OBJECT_DAMAGED({ object: name, problem: 'it is no JSON' }));
      else this.run.findings.addObject(name, damageOf(error));
    }
  }
}
