/**
 * Loads the contracts at run time. The generated types under proto/gen are made with the same options (scripts/generate-types.js);
 * both must change together or field types lie.
 */
import path from 'node:path';
import { loadPackageDefinition } from '@grpc/grpc-js';
import type { GrpcObject, ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Options } from '@grpc/proto-loader';
import { Root } from 'protobufjs';

/** Field names camelCase; 64-bit numbers and enums as strings; absent fields and lists filled in; oneof names present. */
export const loaderOptions: Options = {
  keepCase: false,
  longs: String,
  enums: String,
  defaults: true,
  arrays: true,
  oneofs: true,
};

/** Folder that holds the .proto files; the compiled loader lies in dist/proto. */
export const protoRoot = path.resolve(__dirname, '..', '..', 'proto');

const loaded = new Map<string, GrpcObject>();

/** The package of one .proto file, e.g. `loadProto('tidemark/mover/v1/session_service.proto')`. Cached. */
export function loadProto(file: string): GrpcObject {
  const known = loaded.get(file);
  if (known) return known;
  const object = loadPackageDefinition(loadSync(path.join(protoRoot, file), { ...loaderOptions, includeDirs: [protoRoot] }));
  loaded.set(file, object);
  return object;
}

/** Client constructor (which also carries the service definition) of a fully named service, e.g. `tidemark.mover.v1.SessionService`. */
export function loadService(file: string, fullName: string): ServiceClientConstructor {
  let at: unknown = loadProto(file);
  for (const part of fullName.split('.')) at = (at as Record<string, unknown>)[part];
  if (typeof at !== 'function') throw new TypeError(`${fullName} is not a service of ${file}`);
  return at as unknown as ServiceClientConstructor;
}

/** Plain protobuf messages (Data Mover headers, tickets, status details), without gRPC. */
export function loadMessages(...files: readonly string[]): Root {
  const root = new Root();
  root.resolvePath = (origin, target) =>
    path.isAbsolute(target) ? target : target.startsWith('google/protobuf/') ? target : path.join(protoRoot, target);
  root.loadSync(files.map((file) => path.join(protoRoot, file)));
  return root;
}
