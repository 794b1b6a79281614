#include "common/role.h"
#include "common/log.h"
#include <string.h>
int main(int argc,char**argv){
 if(argc>1&&!strcmp(argv[1],"daemon"))return agent_main(argc-1,argv+1);
 if(argc>2&&!strcmp(argv[1],"role")&&!strcmp(argv[2],"gateway"))return gateway_main(argc-2,argv+2);
 if(argc>2&&!strcmp(argv[1],"role")&&!strcmp(argv[2],"ledger"))return ledger_main(argc-2,argv+2);
 die("usage");}
