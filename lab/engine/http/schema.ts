import { typeTable } from './schema-table';

/** What the schema table says, parsed once. Unknown names inside the table stop the program at start. */

export type TypeName = keyof typeof typeTable;

/** `ref`: an entity of which only id and href are known. `opaque`: unchecked. */
export type FieldType = TypeName | 'ref' | 'opaque';

export type Field =
  | { readonly kind: 'string' | 'int' | 'bool' | 'date' | 'dec' }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  | { readonly kind: 'object'; readonly type: FieldType }
  | { readonly kind: 'list'; readonly element: string; readonly type: FieldType }
  | { readonly kind: 'strings'; readonly element: string };

export interface ApiType {
  readonly name: FieldType;
  readonly plural: string;
  readonly identified: boolean;
  readonly fields: ReadonlyMap<string, Field>;
}

const TEXT: Field = { kind: 'string' };
const IDENTITY: readonly (readonly [string, Field])[] = ['id', 'href', 'name', 'description', 'comment', 'creation_status'].map(
  (name) => [name, TEXT] as const,
);

const types = new Map<FieldType, ApiType>([
  ['ref', { name: 'ref', plural: 'refs', identified: true, fields: new Map(IDENTITY) }],
  ['opaque', { name: 'opaque', plural: 'opaques', identified: false, fields: new Map() }],
  ...Object.entries(typeTable).map(([name, [plural, identity, fields]]) => {
    const own = fields.split(/\s+/).filter((text) => text !== '');
    const all = new Map([...(identity === 'identified' ? IDENTITY : [['href', TEXT] as const]), ...own.map(parseField)]);
    return [name as TypeName, { name: name as TypeName, plural, identified: identity === 'identified', fields: all }] as const;
  }),
]);

export function apiType(name: FieldType): ApiType {
  const type = types.get(name);
  if (!type) {
    throw new Error(`no API type ${name}`);
  }
  return type;
}

/** The type whose collections live under that URL segment: `affinitylabels`. */
export function typeOfSegment(segment: string): TypeName | undefined {
  for (const type of types.values()) {
    if (type.plural.replaceAll('_', '') === segment && type.name !== 'ref' && type.name !== 'opaque') {
      return type.name;
    }
  }
  return undefined;
}

function parseField(text: string): readonly [string, Field] {
  const match = /^(\w+)(?:([:=>*+])(.+))?$/.exec(text);
  const [, name = '', sign, rest = ''] = match ?? [];
  switch (sign) {
    case undefined:
      return [name, TEXT];
    case ':':
      return [name, { kind: rest as 'int' }];
    case '=':
      return [name, { kind: 'enum', values: rest.split('|') }];
    case '>':
      return [name, { kind: 'object', type: checked(rest) }];
    case '*': {
      const [element = '', type] = rest.split(':');
      return [name, { kind: 'list', element, type: checked(type ?? element) }];
    }
    default:
      return [name, { kind: 'strings', element: rest }];
  }
}

function checked(name: string): FieldType {
  if (!(name in typeTable) && name !== 'ref' && name !== 'opaque') {
    throw new Error(`schema table names an unknown type ${name}`);
  }
  return name as FieldType;
}
