import { X509Certificate, createPrivateKey } from 'node:crypto';
import fs from 'node:fs';
import { CommonErrors } from '../../common/errors/common-errors';

/** A certificate that the administrator brought for the console; all else goes on with our own CA. */
export interface ConsoleCertificate {
  /** PEM, leaf first. */
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
}

/** Reads it; it is read again at the next start only. Throws CONFIGURATION_INVALID when the files are not there or do not belong together. */
export function readConsoleCertificate(
  files: { readonly certificateFile: string; readonly privateKeyFile: string } | undefined,
): ConsoleCertificate | undefined {
  if (!files) return undefined;
  const { certificateFile, privateKeyFile } = files;
  const invalid = (problem: string, cause?: unknown) =>
    CommonErrors.CONFIGURATION_INVALID({ problems: `- console: ${problem}` }, cause === undefined ? {} : { cause });
  try {
    const found = { certificateChainPem: fs.readFileSync(certificateFile, 'utf8'), privateKeyPem: fs.readFileSync(privateKeyFile, 'utf8') };
    if (new X509Certificate(found.certificateChainPem).checkPrivateKey(createPrivateKey(found.privateKeyPem))) return found;
  } catch (error) {
    throw invalid(`${certificateFile} and ${privateKeyFile} cannot be read as certificate and key (PEM)`, error);
  }
  throw invalid(`the key in ${privateKeyFile} is not that of the certificate in ${certificateFile}`);
}
