/** The messages and service definitions of version 1 of the API, generated from its proto files. */

export { v1 } from "./gen/index.ovnk_api";
