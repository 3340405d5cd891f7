import fs from 'node:fs';
import { CommonErrors } from '../errors/common-errors';
import { Secret } from '../log/redact';

/** A key of an S3-compatible server. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
}

/** Reads a key from a file of two lines, the id and the secret. Throws ARGUMENT_INVALID, which names `field`. */
export function readAccessKeyFile(file: string, field: string): AccessKey {
  let lines: string[];
  try {
    lines = fs.readFileSync(file, 'utf8').trim().split(/\r?\n/);
  } catch (cause) {
    throw CommonErrors.ARGUMENT_INVALID({ field, problem: `${file} cannot be read` }, { cause });
  }
  const [accessKeyId = '', secretAccessKey = '', ...rest] = lines.map((line) => line.trim());
  if (accessKeyId === '' || secretAccessKey === '' || rest.length > 0) {
    throw CommonErrors.ARGUMENT_INVALID({ field, problem: `${file} has to have two lines, the id of the access key and its secret` });
  }
  return { accessKeyId, secretAccessKey: new Secret(secretAccessKey) };
}
