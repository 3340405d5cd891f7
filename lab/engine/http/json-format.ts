import type { ApiObject, ApiValue } from './api-object';
import { isApiObject, scalarText } from './api-object';
import { badSyntax, invalidValue } from './fault';
import { actionsOf, linksOf } from './links';
import { type ApiType, apiType, type Field, type FieldType } from './schema';

/**
 * JSON as the engine speaks it: integers and booleans are strings, dates and decimals are numbers, lists are wrapped twice.
 * Reading is lenient on scalars and strict on structure.
 */

type JsonObject = Record<string, unknown>;

/** `detailed`: with the `link` and `actions` of the type (the entity of an answer), not for references inside it. */
export function entityToJson(typeName: FieldType, entity: ApiObject, detailed: boolean): JsonObject {
  const type = apiType(typeName);
  const json: JsonObject = {};
  const href = entity['href'];
  if (detailed && typeof href === 'string') {
    const actions = actionsOf(typeName, href);
    const links = [...linksOf(typeName, href), ...extraLinks(entity)];
    Object.assign(json, actions.length > 0 ? { actions: { link: actions } } : {}, links.length > 0 ? { link: links } : {});
  }
  if (typeName === 'opaque') {
    return { ...entity };
  }
  for (const [name, value] of Object.entries(entity)) {
    if (value !== undefined && name !== 'link') {
      json[name] = valueToJson(fieldOf(type, name), value);
    }
  }
  return json;
}

export function collectionToJson(typeName: FieldType, entities: readonly ApiObject[]): JsonObject {
  return entities.length === 0 ? {} : { [typeName]: entities.map((entity) => entityToJson(typeName, entity, true)) };
}

function valueToJson(field: Field, value: ApiValue): unknown {
  switch (field.kind) {
    case 'date':
    case 'dec':
      return value;
    case 'object':
      return isApiObject(value) ? entityToJson(field.type, value, isInlined(value)) : value;
    case 'list': {
      const items = (value as readonly ApiValue[]).filter(isApiObject);
      return items.length === 0 ? {} : { [field.element]: items.map((item) => entityToJson(field.type, item, isInlined(item))) };
    }
    case 'strings':
      return { [field.element]: value };
    default:
      return scalarText(value);
  }
}

/** `follow` marks what it inlined by giving it links of its own. */
const isInlined = (value: ApiObject): boolean => value['link'] !== undefined;

const extraLinks = (entity: ApiObject): readonly ApiValue[] => (Array.isArray(entity['link']) ? (entity['link'] as ApiValue[]) : []);

/** A view with a field that the schema does not know is a bug of the simulator. */
export function fieldOf(type: ApiType, name: string): Field {
  const field = type.fields.get(name);
  if (!field) {
    throw new Error(`type ${type.name} has no field ${name}`);
  }
  return field;
}

/** Reads a request body of the given type. Throws the engine's 400 faults. */
export function jsonToEntity(typeName: FieldType, text: string): ApiObject {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw badSyntax(`The request body is not well-formed JSON; see the description of ${typeName}.`);
  }
  return objectFromJson(typeName, json, typeName);
}

function objectFromJson(typeName: FieldType, json: unknown, where: string): ApiObject {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw badSyntax(`${where} must be an object.`);
  }
  if (typeName === 'opaque') {
    return json as ApiObject;
  }
  const type = apiType(typeName);
  const entity: Record<string, ApiValue> = {};
  for (const [name, value] of Object.entries(json)) {
    if (name === 'link' || name === 'actions' || value === null) {
      continue;
    }
    const field = type.fields.get(name);
    if (!field) {
      throw badSyntax(`Unrecognized field "${name}" in ${where}; see the description of ${typeName}.`);
    }
    entity[name] = valueFromJson(field, value, `${where}.${name}`);
  }
  return entity;
}

function valueFromJson(field: Field, json: unknown, where: string): ApiValue {
  switch (field.kind) {
    case 'object':
      return objectFromJson(field.type, json, where);
    case 'list':
      return arrayOf(json, field.element, where).map((item) => objectFromJson(field.type, item, where));
    case 'strings':
      return arrayOf(json, field.element, where).map((item) => scalarOf(item, where));
    default:
      return parseScalar(field, scalarOf(json, where), where);
  }
}

function arrayOf(json: unknown, element: string, where: string): readonly unknown[] {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw badSyntax(`${where} must be an object with the list "${element}".`);
  }
  const unknown = Object.keys(json).find((name) => name !== element && name !== 'href');
  if (unknown !== undefined) {
    throw badSyntax(`Unrecognized field "${unknown}" in ${where}.`);
  }
  const items = (json as JsonObject)[element] ?? [];
  if (!Array.isArray(items)) {
    throw badSyntax(`${where}.${element} must be a list.`);
  }
  return items as readonly unknown[];
}

function scalarOf(json: unknown, where: string): string {
  if (typeof json === 'string' || typeof json === 'number' || typeof json === 'boolean') {
    return String(json);
  }
  throw badSyntax(`${where} must be a plain value.`);
}

/** Text of a scalar, as both formats carry it, into its natural type. */
export function parseScalar(field: Field, text: string, where: string): ApiValue {
  switch (field.kind) {
    case 'int':
      if (!/^-?\d+$/.test(text.trim()) || !Number.isSafeInteger(Number(text))) {
        throw invalidValue(`${where}: "${text}" is not a whole number.`);
      }
      return Number(text);
    case 'dec':
      if (text.trim() === '' || !Number.isFinite(Number(text))) {
        throw invalidValue(`${where}: "${text}" is not a number.`);
      }
      return Number(text);
    case 'bool':
      if (!['true', 'false', '1', '0'].includes(text.trim())) {
        throw invalidValue(`${where}: "${text}" is neither true nor false.`);
      }
      return text.trim() === 'true' || text.trim() === '1';
    case 'date': {
      const time = /^-?\d+$/.test(text) ? Number(text) : Date.parse(text);
      if (Number.isNaN(time)) {
        throw invalidValue(`${where}: "${text}" is not a date.`);
      }
      return time;
    }
    case 'enum':
      if (!field.values.includes(text)) {
        throw invalidValue(`${where}: "${text}" is not one of ${field.values.join(', ')}.`);
      }
      return text;
    default:
      return text;
  }
}
