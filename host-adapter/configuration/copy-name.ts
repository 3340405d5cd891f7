/** Names of copies of the configuration among the documents of a repository: they sort by age, and say whose they are. Pure. */
export const COPY_FOLDER = 'configuration';

const pattern = /^configuration\/(\d{4})(\d{2})(\d{2})t(\d{2})(\d{2})(\d{2})(\d{3})z-([0-9a-z-]+)$/;

/** `configuration/20261121t033000000z-<installation id>`. */
export function copyName(at: Date, installationId: string): string {
  return `${COPY_FOLDER}/${at.toISOString().replace(/[-:.]/g, '').toLowerCase()}-${installationId}`;
}

export function isCopyOf(name: string, installationId: string): boolean {
  return pattern.exec(name)?.[8] === installationId;
}

/** When and of which server; undefined for other documents. */
export function copyOf(name: string): { readonly createdAt: string; readonly installationId: string } | undefined {
  const [, year, month, day, hour, minute, second, ms, installationId] = pattern.exec(name) ?? [];
  if (installationId === undefined) return undefined;
  return { createdAt: `${year}-${month}-${day}T${hour}:${minute}:${second}.${ms}Z`, installationId };
}
