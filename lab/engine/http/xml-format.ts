import { XMLParser, XMLValidator } from 'fast-xml-parser';
import type { ApiObject, ApiValue } from './api-object';
import { isApiObject, scalarText } from './api-object';
import { badSyntax } from './fault';
import { fieldOf, parseScalar } from './json-format';
import { actionsOf, linksOf } from './links';
import { apiType, type Field, type FieldType } from './schema';

/** XML as the engine speaks it: `id`, `href` and `rel` are attributes, everything else is elements named after the fields. */

const PROLOGUE = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n';
const ATTRIBUTES = new Set(['id', 'href', 'rel']);

export const entityToXml = (type: FieldType, entity: ApiObject): string => PROLOGUE + element(type, type, entity, true);

export function collectionToXml(type: FieldType, entities: readonly ApiObject[]): string {
  const { plural } = apiType(type);
  return `${PROLOGUE}<${plural}>${entities.map((entity) => element(type, type, entity, true)).join('')}</${plural}>`;
}

function element(tag: string, typeName: FieldType, entity: ApiObject, detailed: boolean): string {
  const type = apiType(typeName);
  let attributes = '';
  let content = '';
  for (const [name, value] of Object.entries(entity)) {
    if (value === undefined || name === 'link') {
      continue;
    }
    if (ATTRIBUTES.has(name)) {
      attributes += ` ${name}="${escapeAttribute(scalarText(value))}"`;
    } else if (typeName === 'opaque') {
      content += opaque(name, value);
    } else {
      content += fieldToXml(name, fieldOf(type, name), value);
    }
  }
  const href = entity['href'];
  if (detailed && typeof href === 'string') {
    const actions = actionsOf(typeName, href).map(link).join('');
    const extra = Array.isArray(entity['link']) ? (entity['link'] as ApiObject[]) : [];
    content = `${actions === '' ? '' : `<actions>${actions}</actions>`}${content}${[...linksOf(typeName, href), ...extra].map(link).join('')}`;
  }
  return content === '' ? `<${tag}${attributes}/>` : `<${tag}${attributes}>${content}</${tag}>`;
}

const link = (target: ApiObject): string =>
  `<link href="${escapeAttribute(scalarText(target['href']))}" rel="${escapeAttribute(scalarText(target['rel']))}"/>`;

function fieldToXml(name: string, field: Field, value: ApiValue): string {
  switch (field.kind) {
    case 'object':
      return isApiObject(value) ? element(name, field.type, value, value['link'] !== undefined) : '';
    case 'list': {
      const items = (value as readonly ApiValue[]).filter(isApiObject);
      return `<${name}>${items.map((item) => element(field.element, field.type, item, item['link'] !== undefined)).join('')}</${name}>`;
    }
    case 'strings':
      return `<${name}>${(value as readonly string[]).map((text) => `<${field.element}>${escape(text)}</${field.element}>`).join('')}</${name}>`;
    case 'date':
      return `<${name}>${new Date(value as number).toISOString().replace('Z', '+00:00')}</${name}>`;
    default:
      return `<${name}>${escape(scalarText(value))}</${name}>`;
  }
}

function opaque(name: string, value: ApiValue): string {
  const items = Array.isArray(value) ? (value as readonly ApiValue[]) : [value];
  return items
    .map((item) => {
      const inner = isApiObject(item)
        ? Object.entries(item)
            .map(([key, part]) => (part === undefined ? '' : opaque(key, part)))
            .join('')
        : escape(scalarText(item));
      return `<${name}>${inner}</${name}>`;
    })
    .join('');
}

/** Also removes the control characters that XML 1.0 cannot carry, which libxml2 would refuse. */
export function escape(text: string): string {
  return text

    .replaceAll(/[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]/g, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\r', '&#13;');
}

/** Inside an attribute white space must be written as numbers, or a parser makes blanks of it. */
export const escapeAttribute = (text: string): string => escape(text).replaceAll('\n', '&#10;').replaceAll('\t', '&#9;');

/** One element as the parser gives it (`preserveOrder`): its name is the only key besides the attributes. */
type Node = Readonly<Record<string, unknown>>;

const parser = new XMLParser({
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
  // Decoded here: the parser's own decoding stops after a number of entities that an OVF in a text exceeds.
  processEntities: false,
});

/** Reads a request body of the given type. Throws the engine's 400 faults. */
export function xmlToEntity(typeName: FieldType, text: string): ApiObject {
  if (XMLValidator.validate(text) !== true) {
    throw badSyntax('The request body is not well-formed XML.');
  }
  const root = (parser.parse(text) as Node[]).find((node) => tagOf(node) !== '#text');
  if (!root || tagOf(root) !== typeName) {
    throw badSyntax(`The request body must be a "${typeName}" element.`);
  }
  return objectFromXml(typeName, root, typeName);
}

function objectFromXml(typeName: FieldType, node: Node, where: string): ApiObject {
  const type = apiType(typeName);
  const entity: Record<string, ApiValue> = {};
  for (const name of ATTRIBUTES) {
    const value = (node[':@'] as Record<string, string> | undefined)?.[name];
    if (value !== undefined && name !== 'rel') {
      entity[name] = decode(value);
    }
  }
  for (const child of childrenOf(node)) {
    const name = tagOf(child);
    if (name === '#text' || name === 'link' || name === 'actions') {
      continue;
    }
    if (typeName === 'opaque') {
      entity[name] = childrenOf(child).some((part) => tagOf(part) !== '#text') ? objectFromXml('opaque', child, name) : textOf(child);
      continue;
    }
    const field = type.fields.get(name);
    if (!field) {
      throw badSyntax(`Unrecognized element "${name}" in ${where}; see the description of ${typeName}.`);
    }
    entity[name] = fieldFromXml(field, child, `${where}.${name}`);
  }
  return entity;
}

function fieldFromXml(field: Field, node: Node, where: string): ApiValue {
  switch (field.kind) {
    case 'object':
      return objectFromXml(field.type, node, where);
    case 'list':
      return items(node, field.element, where).map((item) => objectFromXml(field.type, item, where));
    case 'strings':
      return items(node, field.element, where).map(textOf);
    default:
      return parseScalar(field, textOf(node), where);
  }
}

function items(node: Node, name: string, where: string): Node[] {
  const children = childrenOf(node).filter((child) => tagOf(child) !== '#text');
  const wrong = children.find((child) => tagOf(child) !== name);
  if (wrong) {
    throw badSyntax(`Unrecognized element "${tagOf(wrong)}" in ${where}.`);
  }
  return children;
}

const tagOf = (node: Node): string => Object.keys(node).find((key) => key !== ':@') ?? '';

const childrenOf = (node: Node): Node[] => (node[tagOf(node)] as Node[] | undefined) ?? [];

function textOf(node: Node): string {
  return childrenOf(node)
    .map((child) => (tagOf(child) === '#text' ? decode(String(child['#text'])) : ''))
    .join('');
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** The five named entities and numbers. */
export function decode(text: string): string {
  return text.replaceAll(/&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g, (whole, hex?: string, decimal?: string, name?: string) => {
    if (name !== undefined) {
      return ENTITIES[name] ?? whole;
    }
    return String.fromCodePoint(hex === undefined ? Number(decimal) : Number.parseInt(hex, 16));
  });
}
