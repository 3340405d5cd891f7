import type { Server } from '@grpc/grpc-js';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { CollectResult } from '../../proto/gen/tidemark/mover/v1/CollectResult';
import type { DocumentServiceDefinition } from '../../proto/gen/tidemark/mover/v1/DocumentService';
import type { MaintenanceServiceDefinition } from '../../proto/gen/tidemark/mover/v1/MaintenanceService';
import type { Point } from '../../proto/gen/tidemark/mover/v1/Point';
import type { StartCollectRequest__Output } from '../../proto/gen/tidemark/mover/v1/StartCollectRequest';
import { loadService } from '../../proto/loader';
import { serveOptions } from './fake-process';
import { moverError } from './fake-repository';

/** What a fake mover knows of removed points, collections and documents. */
export class FakeMaintenance {
  readonly documents = new Map<string, Buffer>();
  readonly removed = new Map<string, { readonly point: Point; readonly removedAt: Date }>();
  readonly collections: StartCollectRequest__Output[] = [];
  /** The repository cannot take documents. */
  full = false;
  /** Code of the next answer to StartCollect. */
  refusal: string | undefined;
  result: CollectResult = {
    deletedPacks: 2,
    deletedBytes: 4096,
    condemnedPacks: 1,
    condemnedBytes: 1024,
    storedBytes: 9000,
    neededBytes: 8000,
  };
  /** Until it resolves a collection is at work. */
  atWork: Promise<void> = Promise.resolve();
  /** Somebody asked for the collection's end. */
  cancelled = false;

  constructor(private readonly points: { point: Point; configuration: string }[]) {}

  serve(server: Server): void {
    const roles = ['host'] as const;
    serve<DocumentServiceDefinition>(
      server,
      loadService('tidemark/mover/v1/document_service.proto', 'tidemark.mover.v1.DocumentService').service,
      {
        PutDocument: {
          roles,
          unary: async ({ name, content }) => {
            if (this.full) throw moverError('REPOSITORY_FULL', 'RESOURCE_EXHAUSTED');
            this.documents.set(name, content);
            return {};
          },
        },
        ListDocuments: {
          roles,
          unary: async ({ folder }) => ({ names: [...this.documents.keys()].filter((name) => name.startsWith(`${folder}/`)).sort() }),
        },
        GetDocument: {
          roles,
          unary: async ({ name }) => {
            const content = this.documents.get(name);
            if (!content) throw moverError('DOCUMENT_NOT_FOUND', 'NOT_FOUND');
            return { content };
          },
        },
        RemoveDocument: {
          roles,
          unary: async ({ name }) => {
            this.documents.delete(name);
            return {};
          },
        },
      },
      serveOptions('mover'),
    );
    const watch = this.#watch.bind(this);
    serve<MaintenanceServiceDefinition>(
      server,
      loadService('tidemark/mover/v1/maintenance_service.proto', 'tidemark.mover.v1.MaintenanceService').service,
      {
        RemovePoint: {
          roles,
          unary: async ({ pointId }) => {
            const at = this.points.findIndex(({ point }) => point.pointId === pointId);
            const [found] = at < 0 ? [] : this.points.splice(at, 1);
            if (!found) throw moverError('POINT_NOT_FOUND', 'NOT_FOUND');
            const removedAt = new Date();
            this.removed.set(pointId, { point: found.point, removedAt });
            return { removedAt: timestampToWire(removedAt) };
          },
        },
        UndoRemovePoint: {
          roles,
          unary: async ({ pointId }) => {
            const found = this.removed.get(pointId);
            if (!found) throw moverError('POINT_NOT_FOUND', 'NOT_FOUND');
            this.removed.delete(pointId);
            this.points.push({ point: found.point, configuration: '' });
            return { point: found.point };
          },
        },
        StartCollect: {
          roles,
          unary: async (request) => {
            const { refusal } = this;
            this.refusal = undefined;
            if (refusal !== undefined) throw moverError(refusal, 'ABORTED');
            this.collections.push(request);
            return { operationId: `collect-${this.collections.length}` };
          },
        },
        WatchCollect: { roles, serverStream: () => watch() },
        CancelCollect: {
          roles,
          unary: async () => {
            this.cancelled = true;
            return {};
          },
        },
        UndoCollect: { roles, unary: async () => ({ restoredPacks: 3, restoredBytes: 300 }) },
      },
      serveOptions('mover'),
    );
  }

  async *#watch() {
    this.cancelled = false;
    yield { progress: { step: 'COLLECT_STEP_MARKING' as const, done: 1, total: 2 } };
    await this.atWork;
    yield { result: { ...this.result, cancelled: this.cancelled } };
  }
}
