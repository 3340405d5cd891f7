import type { Server } from '@grpc/grpc-js';
import { timestampToWire } from '../../common/rpc/bytes';
import { serve, type ServeOptions } from '../../common/rpc/serve';
import type { DocumentServiceDefinition } from '../../proto/gen/tidemark/mover/v1/DocumentService';
import { loadService } from '../../proto/loader';
import { getDocument, listDocuments, putDocument, removeDocument } from '../documents/documents';
import type { AttachedRepositories } from '../repository/served/attached-repositories';

const definition = loadService('tidemark/mover/v1/document_service.proto', 'tidemark.mover.v1.DocumentService').service;
const roles = ['host'] as const;

/** tidemark.mover.v1.DocumentService; the contract with its conditions is in the .proto file. */
export function serveDocuments(server: Server, repositories: AttachedRepositories, options: ServeOptions): void {
  serve<DocumentServiceDefinition>(
    server,
    definition,
    {
      PutDocument: {
        roles,
        unary: async ({ repositoryId, name, content }) => {
          await putDocument(repositories.get(repositoryId), { name, content }, new Date());
          return {};
        },
      },
      ListDocuments: {
        roles,
        unary: async ({ repositoryId, folder }) => ({ names: await listDocuments(repositories.get(repositoryId), folder) }),
      },
      GetDocument: {
        roles,
        unary: async ({ repositoryId, name }) => {
          const { content, writtenAt } = await getDocument(repositories.get(repositoryId), name);
          return { content, writtenAt: timestampToWire(new Date(writtenAt)) };
        },
      },
      RemoveDocument: {
        roles,
        unary: async ({ repositoryId, name }) => {
          await removeDocument(repositories.get(repositoryId), name);
          return {};
        },
      },
    },
    options,
  );
}
